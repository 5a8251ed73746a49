"""What one trained labeler does for its user: predict, calibrate, merge, be passed on.

`unmask.model` holds many runs of one backbone for training; everything here is about the case of
a single run that somebody wants to use. The one thing that is easy to get wrong: after `merge`
the adapters are part of the backbone, so neither training nor saving them is possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unmask.calibration import Calibration, fit_temperature, tempered
from unmask.data.alignment import EncodedSentence
from unmask.data.sentence import Sentence
from unmask.data.tags import tag_names
from unmask.evaluation import Evaluation, Labelled, evaluate
from unmask.formats import check_format, convert
from unmask.labeler_stack import LabelerStack
from unmask.merging import merged_linear, write_merged
from unmask.predict import as_inputs, predict_texts
from unmask.sharing import push

if TYPE_CHECKING:
    from unmask.lora import GroupedLoRALinear

READ_AHEAD = 256
"""Inputs that `predict_iter` takes from its stream at once, to batch like lengths together."""


class Labeler(LabelerStack):
    """The user's side of `UnmaskedForTokenClassification`."""

    max_subtokens: int
    lora_layers: list[tuple[str, GroupedLoRALinear]]

    temperature: float = 1.0
    """Logits are divided by this before the softmax in `predict`; see `calibrate`."""
    is_merged: bool = False
    loaded_from: Path | None = None
    """The folder of a saved labeler."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Entity labels, sorted.

        Raises:
            ValueError: for a stack whose runs have different ones.
        """
        if len(set(self.run_labels)) > 1:
            raise ValueError("the runs of this stack have different labels: say run_labels[run]")
        return self.run_labels[0]

    @property
    def tags(self) -> tuple[str, ...]:
        """The IOB2 tags of `labels`, "O" first; their places are the ids of the head."""
        return tag_names(self.labels)

    def predict(
        self,
        inputs: str | Sequence[str] | Sequence[Sequence[str]],
        batch_size: int = 8,
        overlap: int | None = None,
        threshold: float | None = None,
        on_truncation: str = "window",
        show_progress_bar: bool = False,
        format: str = "unmask",
    ) -> Any:
        """Find labelled spans in running text or in pre-split words.

        Args:
            inputs: one text, or a list of texts or of lists of words.
            batch_size: windows per forward pass; windows of like length go together.
            overlap: sub-tokens that neighbouring windows of a long text share; default 32, or a
                quarter of a window that is shorter than 128.
            threshold: leave out spans whose score is lower.
            on_truncation: for inputs longer than `max_subtokens`: "window" reads all of them in
                overlapping windows, "error" raises, "warn" leaves out the rest and says so, in a
                warning and in the `truncated` of the spans.
            show_progress_bar: on stderr.
            format: one of `unmask.formats.FORMATS`: "unmask", "hf", "html", "spacy",
                "conll", "brat".

        Returns:
            For one text a list of spans (`unmask.predict.Spans`), otherwise one such list per
            input in the order given; see `unmask.predict.Prediction` for what a span and its score
            are. Other formats take the place of the list of spans.

        Raises:
            ValueError: for a setting or an input that makes no sense.
        """
        check_format(format)
        self._require_single_run("predict()")
        items = list(as_inputs(inputs))
        found = predict_texts(
            items,
            self.encoder,
            self._score,
            self.tags,
            self.max_subtokens,
            batch_size,
            overlap,
            threshold,
            on_truncation,
            show_progress_bar,
        )
        results = [convert(format, item, spans) for item, spans in zip(items, found, strict=True)]  # pyright: ignore[reportArgumentType]
        return results[0] if isinstance(inputs, str) else results

    def predict_iter(
        self,
        inputs: Iterable[str | Sequence[str]],
        batch_size: int = 8,
        read_ahead: int = READ_AHEAD,
        **settings: Any,
    ) -> Iterator[Any]:
        """Predictions for a stream, one by one, in order; memory does not grow with the stream.

        Args:
            inputs: texts or lists of words, from any iterable.
            batch_size: as in `predict`.
            read_ahead: inputs taken from the stream before the first of them is answered.
            **settings: the other settings of `predict`.
        """
        if read_ahead < 1:
            raise ValueError(f"read_ahead must be at least 1, got {read_ahead}")
        stream = iter(as_inputs(inputs))
        while chunk := list(islice(stream, read_ahead)):
            yield from self.predict(chunk, batch_size, **settings)

    def evaluate(self, sentences: Labelled, train: Labelled | None = None) -> Evaluation:
        """Strict scores and mistakes on labelled sentences, tagged as a sweep does it.

        Args:
            sentences: of a corpus that `unmask.data` has read, records such as
                `{"tokens": [...], "ner_tags": [...]}`, or a `datasets.Dataset` with such columns.
            train: what it was trained on, to tell spans that it has seen from others.

        Raises:
            ValueError: when there is nothing to evaluate on, or it cannot be read.
        """
        self._require_single_run("evaluate()")
        return evaluate(self, sentences, train)

    def calibrate(self, sentences: Sequence[Sentence], batch_size: int = 32) -> Calibration:
        """Fit `temperature` on labelled sentences that were not trained on; saved with the model.

        Words that do not fit in `max_subtokens` take no part.
        """
        self._require_single_run("calibrate()")
        tag_ids = {tag: index for index, tag in enumerate(self.tags)}
        encoded = [self.encoder.encode(s, tag_ids, self.max_subtokens) for s in sentences]
        tables: list[Tensor] = []
        for start in range(0, len(encoded), batch_size):
            tables += self.probabilities([encoded[start : start + batch_size]])[0]
        right = [
            [tag_ids[tag] for tag in sentence.tags[: len(table)]]
            for sentence, table in zip(sentences, tables, strict=True)
        ]
        found = fit_temperature(tables, right)
        self.temperature = found.temperature
        return found

    def merge(self) -> None:
        """Fold the adapters into the backbone, for speed; this labeler can only predict then."""
        self._require_single_run("merge()")
        if self.is_merged:
            return
        self._swap_adapters({name: merged_linear(layer) for name, layer in self.lora_layers})
        self.lora_layers = []
        self.is_merged = True

    @contextmanager
    def merged(self) -> Iterator[None]:
        """`merge` for the length of a block; the adapters are back, unchanged, after it."""
        layers, was_merged = self.lora_layers, self.is_merged
        self.merge()
        try:
            yield
        finally:
            self._swap_adapters(dict(layers))
            self.lora_layers, self.is_merged = layers, was_merged

    def merge_and_save(self, folder: str | Path) -> None:
        """Write a plain transformers folder, which AutoModelForTokenClassification loads.

        transformers cannot open single layers: read by it alone the folder is a causal model
        (unless all layers are open); `unmask.merging.load_merged` restores the mask. The folder's
        README.md says so.
        """
        self._require_single_run("merge_and_save()")
        write_merged(self, Path(folder))

    def push_to_hub(
        self,
        repo_id: str,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Add labeler",
    ) -> str:
        """Upload adapters, head, configuration and card (no backbone); returns the address."""
        self._require_single_run("push_to_hub()")
        return push(self, repo_id, private, token, commit_message)

    def _score(self, sentences: Sequence[EncodedSentence]) -> list[Tensor]:
        return [tempered(p, self.temperature) for p in self.probabilities([sentences])[0]]

    def _require_single_run(self, what: str) -> None:
        if len(self.configs) != 1:
            raise ValueError(f"{what} serves one run, this model holds {len(self.configs)}")

    @torch.no_grad()
    def _swap_adapters(self, modules: dict[str, Any]) -> None:
        for name, module in modules.items():
            self.backbone.set_submodule(name, module)
