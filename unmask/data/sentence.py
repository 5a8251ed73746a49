"""The three types that carry labelled text: Span, Sentence, Corpus.

Nothing here knows a tokenizer or a tensor. Tags inside a Sentence are always IOB2;
readers convert on the way in and say so in `Corpus.notes`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A labelled stretch of words: `start` inclusive, `end` exclusive, both word indices."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words with one IOB2 tag each.

    Raises:
        ValueError: when the numbers of words and tags differ, or there are no words.
    """

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.words) != len(self.tags):
            raise ValueError(
                f"sentence {self.id}: {len(self.words)} words but {len(self.tags)} tags; "
                "give exactly one tag per word"
            )
        if not self.words:
            raise ValueError(f"sentence {self.id} has no words; leave empty sentences out")


@dataclass(frozen=True, slots=True)
class Corpus:
    """Three splits of sentences with one label set.

    `labels` are entity labels without prefixes and without "O", sorted. `notes` says in words
    what the reader changed (schemes converted, sentences held out), for the user to see.
    """

    name: str
    train: tuple[Sentence, ...]
    validation: tuple[Sentence, ...]
    test: tuple[Sentence, ...]
    labels: tuple[str, ...]
    licence: str = "unknown"
    notes: tuple[str, ...] = ()

    def split(self, name: str) -> tuple[Sentence, ...]:
        """The sentences of `name`, one of train, validation, test."""
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}; choose one of {', '.join(SPLITS)}")
        return getattr(self, name)

    def limit(self, split: str, num_sentences: int | None) -> Corpus:
        """The same corpus with only the first `num_sentences` of one split; None keeps all."""
        if num_sentences is None:
            return self
        if num_sentences < 1:
            raise ValueError(f"--limit-{split} must be at least 1, got {num_sentences}")
        return replace(self, **{split: self.split(split)[:num_sentences]})

    def fingerprint(self) -> str:
        """Sixteen hex digits that change when any word, tag or split boundary changes."""
        digest = hashlib.sha256()
        for name in SPLITS:
            digest.update(f"\x1d{name}".encode())
            for sentence in self.split(name):
                digest.update(b"\x1e")
                for word, tag in zip(sentence.words, sentence.tags, strict=True):
                    digest.update(f"{word}\x1f{tag}\x1f".encode())
        return digest.hexdigest()[:16]
