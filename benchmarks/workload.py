"""Batches of sentences to time: drawn with the lengths of CoNLL-2003, or read from a corpus.

CoNLL-2003 may not be passed on, and only lengths matter for speed, so the default draws them: word
counts from a gamma distribution with the corpus' published mean, cut to its range. The one thing
that is easy to get wrong is the spread, because padding costs the longest of a batch; it comes
from an open corpus of the same kind (see `LENGTH_SHAPE`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unmask.backbones import LoadedBackbone
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence, WordEncoder
from unmask.data.readers import read_corpus
from unmask.data.tags import tag_names
from unmask.recipe import PAPER
from unmask.training.batches import encode_split

CONLL_LABELS = ("LOC", "MISC", "ORG", "PER")
CONLL_MEAN_WORDS = 203_621 / 14_041
"""Tokens by sentences of the English training split: Tjong Kim Sang and De Meulder (2003), table
1, whose 14,987 sentences include the 946 lines that only begin a document."""
CONLL_MAX_WORDS = 113
LENGTH_SHAPE = 1.46
"""(mean / standard deviation) squared of words a sentence in the dev split of UNER-EWT (mean 12.6,
deviation 10.4), where very short lines and long sentences mix as in newswire."""
EXTRA_SUBTOKENS = 0.5
"""Sub-tokens of a word beyond its first. SmolLM2's tokenizer makes 0.2 on UNER-EWT and 0.7 on
WNUT-17; newswire full of names and numbers is taken to lie between."""


@dataclass(frozen=True)
class Workload:
    """What is timed: batches of sentences, and the entity labels that their tags stand for."""

    batches: Sequence[Sequence[EncodedSentence]]
    labels: tuple[str, ...]

    @property
    def num_tokens(self) -> int:
        """Real tokens in all batches."""
        return sum(len(sentence.token_ids) for batch in self.batches for sentence in batch)

    def describe(self) -> dict[str, Any]:
        """Sizes, for the report; padding is how many places a padded batch has a real token."""
        lengths = [[len(sentence.token_ids) for sentence in batch] for batch in self.batches]
        words = sum(sentence.num_words for batch in self.batches for sentence in batch)
        sentences = sum(len(batch) for batch in lengths)
        return {
            "sentences": sentences,
            "tokens": self.num_tokens,
            "words_a_sentence": round(words / sentences, 2),
            "tokens_a_sentence": round(self.num_tokens / sentences, 2),
            "longest_in_tokens": max(max(batch) for batch in lengths),
            "padding": round(sum(max(b) * len(b) for b in lengths) / self.num_tokens, 3),
        }


def draw_workload(vocab_size: int, num_batches: int, batch_size: int, seed: int) -> Workload:
    """Random sub-tokens and tags in sentences as long as those of CoNLL-2003."""
    rng = np.random.default_rng(seed)
    sentences = [_draw_sentence(rng, vocab_size) for _ in range(num_batches * batch_size)]
    return Workload(_in_batches(sentences, batch_size), CONLL_LABELS)


def read_workload(
    folder: Path, loaded: LoadedBackbone, num_batches: int, batch_size: int, seed: int
) -> Workload:
    """Sentences of a corpus in random order, as training meets them.

    They are those of its training split, or of its largest split where there is none.

    Raises:
        ValueError: when there are too few.
    """
    corpus = read_corpus(folder, folder.name)
    split = corpus.train or max((corpus.validation, corpus.test), key=len)
    wanted = num_batches * batch_size
    if len(split) < wanted:
        raise ValueError(
            f"{folder} has {len(split)} sentences in its largest usable split, {wanted} are "
            "needed: lower --batches or --batch-size"
        )
    order = np.random.default_rng(seed).permutation(len(split))[:wanted]
    encoder = WordEncoder(loaded.tokenizer)
    tags = tag_names(corpus.labels)
    chosen = [split[index] for index in order]
    sentences = encode_split(chosen, encoder, tags, PAPER.max_subtokens)
    return Workload(_in_batches(sentences, batch_size), corpus.labels)


def by_length(workload: Workload, batch_size: int) -> list[Sequence[EncodedSentence]]:
    """The same sentences in batches of neighbours in length, in random order."""
    sentences = [sentence for batch in workload.batches for sentence in batch]
    ordered = sorted(sentences, key=lambda sentence: len(sentence.token_ids))
    batches = _in_batches(ordered, batch_size)
    return [batches[index] for index in np.random.default_rng(0).permutation(len(batches))]


def _draw_sentence(rng: np.random.Generator, vocab_size: int) -> EncodedSentence:
    drawn = rng.gamma(LENGTH_SHAPE, CONLL_MEAN_WORDS / LENGTH_SHAPE)
    num_words = int(np.clip(round(drawn), 1, CONLL_MAX_WORDS))
    pieces = 1 + rng.poisson(EXTRA_SUBTOKENS, size=num_words)
    word_index = np.repeat(np.arange(num_words), pieces)[: PAPER.max_subtokens]
    begins_word = np.diff(word_index, prepend=-1) > 0
    tags = rng.integers(len(tag_names(CONLL_LABELS)), size=len(word_index))
    return EncodedSentence(
        sentence_id="drawn",
        token_ids=tuple(rng.integers(vocab_size, size=len(word_index)).tolist()),
        word_index=tuple(word_index.tolist()),
        label_ids=tuple(np.where(begins_word, tags, IGNORED_LABEL).tolist()),
        num_truncated_words=num_words - 1 - int(word_index[-1]),
    )


def _in_batches(
    sentences: Sequence[EncodedSentence], batch_size: int
) -> list[Sequence[EncodedSentence]]:
    starts = range(0, len(sentences), batch_size)
    return [sentences[start : start + batch_size] for start in starts]
