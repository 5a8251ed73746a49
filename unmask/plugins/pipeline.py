"""A callable in the shape of `transformers.pipeline("token-classification")`.

For code that was written against the pipeline: same calls, same keys. What the pipeline decides
by `aggregation_strategy` is decided here by valid IOB2 over words, so every answer is a group, and
a word has the tag of its first sub-token.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unmask.model import UnmaskedForTokenClassification

STRATEGIES = ("simple", "first")
"""What the pipeline calls it when answers are groups and words have their first sub-token's tag."""


class TokenClassificationPipeline:
    """Call it with a text, a list of texts, or any other iterable of texts.

    Each answer is a list of `{"entity_group", "score", "word", "start", "end"}`. A text gives one
    answer, a list a list of answers, and another iterable an iterator over answers, as the
    pipeline of transformers does.

    Args:
        model: a labeler, its folder, or the hub id of one.
        device: of a labeler that is loaded.
        batch_size: windows per forward pass.
        aggregation_strategy: one of `STRATEGIES`, which mean the same here.

    Raises:
        ValueError: for a strategy that asks for tokens, or for scores of all sub-tokens.
    """

    def __init__(
        self,
        model: str | Path | UnmaskedForTokenClassification,
        device: str | None = None,
        batch_size: int = 8,
        aggregation_strategy: str = STRATEGIES[0],
    ) -> None:
        _check(aggregation_strategy)
        if not isinstance(model, UnmaskedForTokenClassification):
            model = UnmaskedForTokenClassification.from_pretrained(model, device=device)
        self.model = model
        self.batch_size = batch_size

    def __call__(
        self,
        inputs: str | Sequence[str] | Iterable[str],
        batch_size: int | None = None,
        aggregation_strategy: str = STRATEGIES[0],
    ) -> list[dict[str, Any]] | list[list[dict[str, Any]]] | Iterator[list[dict[str, Any]]]:
        """Label `inputs`; see the class."""
        _check(aggregation_strategy)
        size = batch_size or self.batch_size
        if isinstance(inputs, str | list | tuple):
            return self.model.predict(inputs, batch_size=size, format="hf")
        return self.model.predict_iter(inputs, batch_size=size, format="hf")


def _check(aggregation_strategy: str) -> None:
    if aggregation_strategy not in STRATEGIES:
        raise ValueError(
            f"aggregation_strategy must be one of {', '.join(STRATEGIES)}, got "
            f"{aggregation_strategy!r}: a labeler tags whole words, by their first sub-tokens"
        )
