"""The spaCy component: `nlp.add_pipe("unmask", config={"model": FOLDER})`.

Labels are predicted on spaCy's own tokens, so a span can never fall between them and be dropped.
The one thing that is easy to get wrong: spaCy keeps white space as tokens; they are not shown to
the model, and spans are counted back to the document's tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.util import filter_spans, minibatch

from unmask.model import UnmaskedForTokenClassification

NAME = "unmask"

DEFAULTS: dict[str, Any] = {
    "batch_size": 8,
    "by_sentence": True,
    "threshold": None,
    "overwrite_entities": False,
    "spans_key": NAME,
    "device": None,
}


@Language.factory(
    NAME, assigns=["doc.ents", "doc.spans"], default_config={"model": None, **DEFAULTS}
)
def make_component(
    nlp: Language,
    name: str,
    model: str | None,
    batch_size: int,
    by_sentence: bool,
    threshold: float | None,
    overwrite_entities: bool,
    spans_key: str,
    device: str | None,
) -> UnmaskComponent:
    """What spaCy calls for `nlp.add_pipe("unmask", config=...)`.

    Raises:
        ValueError: when no model is named.
    """
    if model is None:
        raise ValueError(
            'name a saved labeler: nlp.add_pipe("unmask", config={"model": "path/to/folder"})'
        )
    labeler = UnmaskedForTokenClassification.from_pretrained(_place(model), device=device)
    return UnmaskComponent(
        labeler, batch_size, by_sentence, threshold, overwrite_entities, spans_key
    )


class UnmaskComponent:
    """Sets `doc.ents`, and a group of spans with their scores.

    Args:
        labeler: what predicts.
        batch_size: windows per forward pass.
        by_sentence: predict sentence by sentence where the document has sentence boundaries,
            which is what labelers are trained on; otherwise documents are read as a whole.
        threshold: leave out spans whose score is lower.
        overwrite_entities: forget entities that earlier components set; otherwise they stay, and
            of overlapping ones the longest is kept (`spacy.util.filter_spans`).
        spans_key: `doc.spans[spans_key]` holds what was predicted, whatever became of `doc.ents`;
            its `attrs["scores"]` are the scores.
    """

    def __init__(
        self,
        labeler: UnmaskedForTokenClassification,
        batch_size: int = 8,
        by_sentence: bool = True,
        threshold: float | None = None,
        overwrite_entities: bool = False,
        spans_key: str = NAME,
    ) -> None:
        self.labeler = labeler
        self.batch_size = batch_size
        self.by_sentence = by_sentence
        self.threshold = threshold
        self.overwrite_entities = overwrite_entities
        self.spans_key = spans_key

    @property
    def labels(self) -> tuple[str, ...]:
        """The entity labels, as spaCy's own components have them."""
        return self.labeler.labels

    def __call__(self, doc: Doc) -> Doc:
        """Label one document."""
        return self._label([doc])[0]

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 64) -> Iterator[Doc]:
        """Label a stream; `batch_size` documents are read at once."""
        for docs in minibatch(stream, batch_size):
            yield from self._label(list(docs))

    def _label(self, docs: Sequence[Doc]) -> Sequence[Doc]:
        pieces = [self._pieces(doc) for doc in docs]
        words = [[doc[i].text for i in p] for doc, of in zip(docs, pieces, strict=True) for p in of]
        found = iter(
            self.labeler.predict(words, batch_size=self.batch_size, threshold=self.threshold)
        )
        for doc, of in zip(docs, pieces, strict=True):
            spans, scores = [], []
            for tokens in of:
                for one in next(found):
                    first, last = tokens[one["word_start"]], tokens[one["word_end"] - 1]
                    spans.append(Span(doc, first, last + 1, label=one["label"]))
                    scores.append(one["score"])
            self._set(doc, spans, scores)
        return docs

    def _pieces(self, doc: Doc) -> list[list[int]]:
        """Token indices of each stretch to be read at once, white space left out."""
        cut = self.by_sentence and doc.has_annotation("SENT_START")
        stretches = doc.sents if cut else [doc]
        pieces = [[token.i for token in part if token.text.strip()] for part in stretches]
        return [piece for piece in pieces if piece]

    def _set(self, doc: Doc, spans: list[Span], scores: list[float]) -> None:
        doc.spans[self.spans_key] = spans
        doc.spans[self.spans_key].attrs["scores"] = scores
        earlier = [] if self.overwrite_entities else list(doc.ents)
        doc.set_ents(filter_spans([*spans, *earlier]))


def _place(model: str) -> str:
    from unmask.saving import is_saved

    if not is_saved(Path(model)):
        raise ValueError(f"{model} is not a folder that save_pretrained or a sweep wrote")
    return model
