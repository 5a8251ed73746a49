"""Predicted tags for the sentences of every run in a stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor

from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.sentence import Sentence
from unmask.ranks import Ranks

TOKENS_PER_FORWARD = 4096


class Tagger(Protocol):
    """A stack of labelers, with adapters or without."""

    encoder: WordEncoder
    run_tags: tuple[tuple[str, ...], ...]
    """What each labeler's ids stand for."""

    def probabilities(self, runs: Sequence[Sequence[EncodedSentence]]) -> list[list[Tensor]]:
        """For every run and sentence, [words kept, its tags]."""
        ...


def predict_tags(
    model: Tagger,
    runs: Sequence[Sequence[Sentence]],
    max_subtokens: int,
    tokens_per_forward: int = TOKENS_PER_FORWARD,
    ranks: Ranks | None = None,
) -> list[tuple[list[list[str]], int]]:
    """The most probable tag of every word, run by run.

    Words that were cut get "O": they count against the full gold. No IOB2 constraint is applied,
    because the published scores have none.

    Args:
        model: a stack of as many runs as `runs` has entries.
        runs: the sentences each run is to tag.
        max_subtokens: longer sentences are cut.
        tokens_per_forward: bound on the tokens of one forward pass, all runs together.
        ranks: processes that call this together, share the work, and all get all tags; None: this
            one works alone, whatever process group it may be in.

    Returns:
        For every run the tags per sentence, in order, and the number of words that were cut.
    """
    results, ranks = [], ranks or Ranks()
    encoded_once: dict[int, list[EncodedSentence]] = {}
    for run, sentences in enumerate(runs):
        # The runs of a stack mostly read the very same sentences.
        if id(sentences) not in encoded_once:
            encoded_once[id(sentences)] = [
                model.encoder.encode_words(s.words, max_subtokens) for s in sentences
            ]
        encoded = encoded_once[id(sentences)]
        tags: list[list[str]] = [["O"] * len(sentence.words) for sentence in sentences]
        groups, own = list(by_length(encoded, tokens_per_forward)), {}
        for turn in range(0, len(groups), ranks.size):
            # Whoever has none left does another's: spread weights need all ranks in every pass.
            group = groups[min(turn + ranks.rank, len(groups) - 1)]
            stack: list[list] = [[] for _ in runs]
            stack[run] = [encoded[index] for index in group]
            for index, scores in zip(group, model.probabilities(stack)[run], strict=True):
                own[index] = scores.argmax(dim=-1).tolist()
        for found in ranks.gather(own):
            for index, best in found.items():
                tags[index][: len(best)] = [model.run_tags[run][tag] for tag in best]
        results.append((tags, sum(sentence.num_truncated_words for sentence in encoded)))
    return results


def by_length(sentences: Sequence[EncodedSentence], max_tokens: int) -> Iterator[list[int]]:
    """Indices in groups of at most `max_tokens` tokens, sentences of like length together.

    A sentence longer than `max_tokens` makes a group of its own.
    """
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index].token_ids))
    group, tokens = [], 0
    for index in order:
        length = len(sentences[index].token_ids)
        if group and tokens + length > max_tokens:
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += length
    if group:
        yield group
