"""Constrained decoding: of the next tokens, only those that can still become a well-formed answer.

A grammar is a regular expression, and the `regex` module says of a text whether it is the
beginning of a match. So tokens are tried from the most probable down until one fits, which is
nearly always among the first few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import regex
import torch
from torch import Tensor
from transformers import LogitsProcessor

from unmask.instruct.system import Grammar

MAX_TRIED = 512
"""Tokens tried before an answer is ended where it stands."""


class GrammarProcessor(LogitsProcessor):
    """Leaves each row the most probable token that its grammar allows, for greedy decoding."""

    def __init__(
        self, grammars: Sequence[Grammar | None], tokenizer: Any, prompt_length: int
    ) -> None:
        self.patterns = [regex.compile(one.pattern) if one else None for one in grammars]
        self.tokenizer = tokenizer
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[rows, vocabulary] logits, all but one of each constrained row at minus infinity."""
        limited = scores.clone()
        for row, pattern in enumerate(self.patterns):
            if pattern is not None:
                token = self._best(pattern, input_ids[row, self.prompt_length :], scores[row])
                limited[row] = -torch.inf
                limited[row, token] = 0.0
        return limited

    def _best(self, pattern: Any, written: Tensor, scores: Tensor) -> int:
        end = self.tokenizer.eos_token_id
        ids = written.tolist()
        if end in ids:
            return end
        for token in scores.topk(min(MAX_TRIED, len(scores))).indices.tolist():
            text = self._text([*ids, token] if token != end else ids)
            if token == end:
                if pattern.fullmatch(text):
                    return end
            elif text and pattern.fullmatch(text, partial=True):
                return token
        return end

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )


def completed(text: str, grammar: Grammar) -> str:
    r"""The text if it is well-formed; else its longest beginning that a closer makes so.

    >>> completed('["a", "b', Grammar(r'\[("[a-z]+"(, "[a-z]+")*)?\]', ("]", '"]')))
    '["a", "b"]'
    """
    pattern = regex.compile(grammar.pattern)
    if pattern.fullmatch(text):
        return text
    for length in range(len(text), -1, -1):
        for closer in grammar.closers:
            if pattern.fullmatch(text[:length] + closer):
                return text[:length] + closer
    return text
