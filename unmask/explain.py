"""Which layers' looking right changed a label: each open group is closed in turn and compared.

The labeler itself is left as it was trained; only the mask of one group of layers is put back
while it predicts. The one thing that is easy to get wrong is the reading: a closed layer sees less
than it was trained with, so this shows what the labels rest on, not what a labeler trained without
that group would say. Compare two labelers (`other`) for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from html import escape

from unmask.config import UnmaskConfig, group_sizes
from unmask.data.sentence import Span
from unmask.model import UnmaskedForTokenClassification
from unmask.predict import Prediction


@dataclass(frozen=True)
class Variant:
    """One way to predict, and the spans it gives per sentence, in words."""

    name: str
    spans: tuple[tuple[Span, ...], ...]

    def differences(self, base: Variant) -> list[int]:
        """The sentences for which this variant gives other spans than `base`."""
        pairs = enumerate(zip(self.spans, base.spans, strict=True))
        return [index for index, (own, other) in pairs if own != other]


@dataclass(frozen=True)
class Explanation:
    """The labeler as it is (first), and its variants, on the same sentences."""

    sentences: tuple[tuple[str, ...], ...]
    variants: tuple[Variant, ...]

    def to_text(self) -> str:
        """How many sentences each variant labels otherwise."""
        base, *others = self.variants
        lines = [f"{len(self.sentences)} sentences, labeled by {base.name}"]
        lines += [f"{len(v.differences(base)):>6} change with {v.name}" for v in others]
        return "\n".join(lines)

    def to_html(self) -> str:
        """A page with every sentence that some variant labels otherwise."""
        base, *others = self.variants
        changed = sorted({index for variant in others for index in variant.differences(base)})
        rows = []
        for index in changed:
            shown = [base, *(v for v in others if v.spans[index] != base.spans[index])]
            cells = (
                f"<tr><th>{escape(variant.name)}</th>"
                f"<td>{_marked(self.sentences[index], variant.spans[index])}</td></tr>"
                for variant in shown
            )
            rows.append(f"<h2>sentence {index + 1}</h2><table>{''.join(cells)}</table>")
        body = "".join(rows) or "<p>No label changes.</p>"
        return f"{_HEAD}<pre>{escape(self.to_text())}</pre>{body}\n"


def explain(
    labeler: UnmaskedForTokenClassification,
    sentences: Sequence[Sequence[str]],
    other: UnmaskedForTokenClassification | None = None,
    batch_size: int = 8,
) -> Explanation:
    """Predict as trained, with each open group of layers closed, and with all of them closed.

    Args:
        labeler: what is to be explained.
        sentences: lists of words.
        other: a second labeler; then the two are compared, and nothing is closed.
        batch_size: windows per forward pass.

    Raises:
        ValueError: for an encoder, which has no mask to put back, and no other labeler.
    """
    words = tuple(tuple(sentence) for sentence in sentences)

    def variant(name: str, model: UnmaskedForTokenClassification) -> Variant:
        found = model.predict(list(words), batch_size=batch_size)
        return Variant(name, tuple(tuple(map(_span, spans)) for spans in found))

    config = labeler.configs[0]
    if other is not None:
        second = f"the other labeler ({other.configs[0].code})"
        return Explanation(words, (variant(config.code, labeler), variant(second, other)))
    if labeler.loaded.is_encoder:
        raise ValueError("an encoder has no causal mask to put back; compare it with a decoder")
    variants = [variant(config.code, labeler)]
    for name, closed in _closings(config):
        with _masked(labeler, closed):
            variants.append(variant(name, labeler))
    return Explanation(words, tuple(variants))


def _closings(config: UnmaskConfig) -> Iterator[tuple[str, UnmaskConfig]]:
    """Every open group closed by itself, then all; without groups, every open layer."""
    first, groups = 0, []
    for size in group_sizes(config.num_groups or config.num_layers, config.num_layers):
        if config.bidirectional[first]:
            groups.append((first, first + size))
        first += size
    for begin, end in groups:
        flags = [flag and not begin <= i < end for i, flag in enumerate(config.bidirectional)]
        layers = f"layer {begin}" if end == begin + 1 else f"layers {begin} to {end - 1}"
        yield f"{layers} closed", UnmaskConfig(tuple(flags))
    if len(groups) > 1:
        yield (
            "all layers closed",
            replace(config, bidirectional=(False,) * config.num_layers, num_groups=None),
        )


@contextmanager
def _masked(labeler: UnmaskedForTokenClassification, config: UnmaskConfig) -> Iterator[None]:
    """Another mask for the length of a block; packed batches take it from `configs`."""
    own = labeler.configs
    labeler.configs = (config,)
    try:
        yield
    finally:
        labeler.configs = own


def _span(prediction: Prediction) -> Span:
    return Span(prediction["word_start"], prediction["word_end"], prediction["label"])  # pyright: ignore[reportTypedDictNotRequiredAccess]


def _marked(words: Sequence[str], spans: Sequence[Span]) -> str:
    shown = [escape(word) for word in words]
    for span in spans:
        shown[span.start] = "<mark>" + shown[span.start]
        shown[span.end - 1] += f" <small>{escape(span.label)}</small></mark>"
    return " ".join(shown)


_HEAD = """<!doctype html><meta charset="utf-8"><title>What the labels rest on</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 1rem auto; padding: 0 1rem }
h2 { font-size: 1rem; margin: 1.5rem 0 0 }
th { text-align: left; font-weight: normal; color: #555; padding-right: 1rem; vertical-align: top }
mark { background: #dbeafe; border-radius: 3px; padding: 0 2px }
small { color: #1e40af }
</style>
"""
