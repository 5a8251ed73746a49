"""Text or words to labelled spans: windows over long input, valid IOB2, offsets that hold.

Takes a function that scores encoded sentences, so it knows no model. Words come from our own
splitting, never from a tokenizer's offsets, so `text[start:end]` is the span's text by
construction.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from unmask.data.alignment import EncodedSentence, WordEncoder
from unmask.data.tags import spans_from_tags
from unmask.data.words import split_words

ScoreFunction = Callable[[Sequence[EncodedSentence]], list[Tensor]]

ON_TRUNCATION = ("window", "error", "warn")
"""What to do with an input that does not fit at once: read it in overlapping windows, raise, or
leave out the words that do not fit and say how many."""


OVERLAP = 32
"""Sub-tokens that neighbouring windows share, unless that is more than a quarter of a window."""


class Prediction(TypedDict):
    """One span. `score` is the mean over its words of the probability of the word's tag.

    Probabilities are the softmax of the logits divided by the labeler's temperature, which is 1
    until `calibrate` has fitted it: uncalibrated scores may be far from how often they are right.

    `start` and `end` count characters of the text (of the words joined by single spaces, when
    words were given). `word_start` and `word_end` (exclusive) are there when words were given.
    """

    text: str
    label: str
    score: float
    start: int
    end: int
    word_start: NotRequired[int]
    word_end: NotRequired[int]


class Spans(list[Any]):
    """The spans of one input in order: a list that also says whether all of the input was read.

    `num_words_left_out` is more than 0 only with `on_truncation="warn"`.
    """

    def __init__(self, spans: Iterable[Any] = (), num_words_left_out: int = 0) -> None:
        super().__init__(spans)
        self.num_words_left_out = num_words_left_out

    @property
    def truncated(self) -> bool:
        """Were words at the end of the input left out?"""
        return self.num_words_left_out > 0


@dataclass(frozen=True)
class _Input:
    text: str
    words: tuple[str, ...]
    starts: tuple[int, ...]
    were_words: bool


@dataclass(frozen=True)
class _Window:
    source: int
    first_word: int
    encoded: EncodedSentence


def predict_texts(
    inputs: str | Sequence[str] | Sequence[Sequence[str]],
    encoder: WordEncoder,
    score: ScoreFunction,
    tags: Sequence[str],
    max_subtokens: int,
    batch_size: int = 8,
    overlap: int | None = None,
    threshold: float | None = None,
    on_truncation: str = "window",
    show_progress_bar: bool = False,
) -> Spans | list[Spans]:
    """See `unmask.labeler.Labeler.predict`."""
    _check_settings(batch_size, threshold, on_truncation)
    room = max(max_subtokens - encoder.num_special_tokens, 1)
    overlap = min(OVERLAP, room // 4) if overlap is None else overlap
    if not 0 <= overlap < room:
        raise ValueError(f"overlap must be between 0 and {room - 1} sub-tokens, got {overlap}")
    sources = [_read(item) for item in as_inputs(inputs)]
    fitting = []
    for index, source in enumerate(sources):
        found = _windows(index, source.words, encoder, max_subtokens, overlap)
        fitting.append(_fitting(found, len(source.words), max_subtokens, on_truncation))
    windows = [window for kept, _ in fitting for window in kept]
    by_word = _score_windows(sources, windows, score, len(tags), batch_size, show_progress_bar)
    spans = [
        Spans((s for s in _spans(source, table, tags) if s["score"] >= (threshold or 0)), cut)
        for source, table, (_, cut) in zip(sources, by_word, fitting, strict=True)
    ]
    return spans[0] if isinstance(inputs, str) else spans


def as_inputs(inputs: Any) -> Iterable[Any]:
    """The inputs, as lazily as they come; a text alone is one.

    Raises:
        ValueError: for what is neither a text nor a list.
    """
    if isinstance(inputs, str):
        return [inputs]
    if not _is_listlike(inputs):
        raise ValueError(
            f"a {type(inputs).__name__} cannot be labelled: give a text, a list of texts, or a "
            "list of lists of words"
        )
    return inputs


def decode_iob2(log_probabilities: np.ndarray, tags: Sequence[str]) -> list[int]:
    """The most probable valid IOB2 sequence (Viterbi).

    An I- tag may follow only B- or I- of its own label, so it never begins a sentence.

    Args:
        log_probabilities: [words, tags].
        tags: names of the columns.

    Returns:
        One column index per word.
    """
    start, steps = _transitions(tuple(tags))
    best = log_probabilities[0] + start
    back = np.zeros(log_probabilities.shape, dtype=int)
    for word in range(1, len(log_probabilities)):
        paths = best[:, None] + steps
        back[word] = paths.argmax(axis=0)
        best = paths.max(axis=0) + log_probabilities[word]
    path = [int(best.argmax())]
    for word in range(len(log_probabilities) - 1, 0, -1):
        path.append(int(back[word][path[-1]]))
    return path[::-1]


@lru_cache(maxsize=8)
def _transitions(tags: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """[tags] and [tags before, tags]: 0 where a tag may begin or follow, else -inf."""
    allowed = np.array([[_may_follow(tag, before) for tag in tags] for before in tags])
    start = np.array([-np.inf if tag.startswith("I-") else 0.0 for tag in tags])
    return start, np.where(allowed, 0.0, -np.inf)


def _may_follow(tag: str, before: str) -> bool:
    return not tag.startswith("I-") or before[2:] == tag[2:]


def _check_settings(batch_size: int, threshold: float | None, on_truncation: str) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"threshold is a probability from 0 to 1, got {threshold}")
    if on_truncation not in ON_TRUNCATION:
        raise ValueError(
            f"on_truncation must be one of {', '.join(ON_TRUNCATION)}, got {on_truncation!r}"
        )


def _read(item: str | Sequence[str]) -> _Input:
    if isinstance(item, str):
        _check_unicode(item)
        pieces = split_words(item)
        words = tuple(item[start:end] for start, end in pieces)
        return _Input(item, words, tuple(start for start, _ in pieces), were_words=False)
    if not _is_listlike(item):
        raise ValueError(f"input {item!r} is neither a text nor a list of words")
    words = tuple(item)
    odd = [word for word in words if not isinstance(word, str) or not word.strip()]
    if odd:
        raise ValueError(f"a list of words holds {odd[0]!r}; every word must be a non-empty string")
    _check_unicode(" ".join(words))
    starts, position = [], 0
    for word in words:
        starts.append(position)
        position += len(word) + 1
    return _Input(" ".join(words), words, tuple(starts), were_words=True)


def _is_listlike(value: Any) -> bool:
    """Can this be gone through, in an order of its own? Records, sets and bytes are mistakes."""
    return isinstance(value, Iterable) and not isinstance(value, Mapping | set | frozenset | bytes)


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half a surrogate pair, {text[error.start]!r} at character "
            f"{error.start}, which is no character; mend what decoded it"
        ) from None


def _windows(
    source: int, words: Sequence[str], encoder: WordEncoder, max_subtokens: int, overlap: int
) -> list[_Window]:
    windows, first = [], 0
    while first < len(words):
        # A word has at least one sub-token, so no more words can fit.
        encoded = encoder.encode_words(words[first : first + max_subtokens], max_subtokens)
        windows.append(_Window(source, first, encoded))
        end = first + encoded.num_words
        if end == len(words):
            break
        first = _step_back(words, encoder, first, end, overlap)
    return windows


def _fitting(
    windows: list[_Window], num_words: int, max_subtokens: int, on_truncation: str
) -> tuple[list[_Window], int]:
    """All windows of one input, or the first when the caller wants no more; words left out."""
    cut = num_words - windows[0].encoded.num_words if windows else 0
    if not cut or on_truncation == "window":
        return windows, 0
    said = (
        f"input {windows[0].source}: {cut} of {num_words} words do not fit into {max_subtokens} "
        "sub-tokens"
    )
    if on_truncation == "error":
        raise ValueError(f'{said}; on_truncation="window" reads long inputs in windows')
    warnings.warn(f"{said} and were left out", stacklevel=5)
    return windows[:1], cut


def _step_back(
    words: Sequence[str], encoder: WordEncoder, first: int, end: int, overlap: int
) -> int:
    """The word at which the next window begins: up to `overlap` sub-tokens before `end`."""
    begin, shared = end, 0
    while begin - 1 > first:
        shared += len(encoder.encode_word(words[begin - 1]))
        if shared > overlap:
            break
        begin -= 1
    return begin


def _score_windows(
    sources: Sequence[_Input],
    windows: Sequence[_Window],
    score: ScoreFunction,
    num_tags: int,
    batch_size: int,
    show_progress_bar: bool,
) -> list[np.ndarray]:
    """Probabilities [words, tags] per input, from the window that sees most around each word."""
    tables = [np.zeros((len(source.words), num_tags)) for source in sources]
    context = [np.full(len(source.words), -1) for source in sources]
    # Like lengths together: fewer bins for attention, and results keep their own places anyway.
    order = sorted(range(len(windows)), key=lambda i: len(windows[i].encoded.token_ids))
    starts = range(0, len(order), batch_size)
    for start in _with_bar(starts) if show_progress_bar else starts:
        chosen = [windows[index] for index in order[start : start + batch_size]]
        for window, probabilities in zip(chosen, score([w.encoded for w in chosen]), strict=True):
            count = len(probabilities)
            places = np.arange(window.first_word, window.first_word + count)
            around = np.minimum(np.arange(count), np.arange(count)[::-1])
            better = around > context[window.source][places]
            tables[window.source][places[better]] = probabilities[torch.from_numpy(better)].numpy()
            context[window.source][places[better]] = around[better]
    return tables


def _with_bar(batches: Sequence[int]) -> Iterable[int]:
    from rich.console import Console
    from rich.progress import track

    return track(batches, "labelling", console=Console(stderr=True), transient=True)


def _spans(source: _Input, table: np.ndarray, tags: Sequence[str]) -> list[Prediction]:
    if not source.words:
        return []
    # A probability may be 0 in float32; were all paths impossible, none would be the best.
    path = decode_iob2(np.log(np.maximum(table, np.finfo(np.float32).tiny)), tags)
    found: list[Prediction] = []
    for span in spans_from_tags([tags[index] for index in path]):
        chosen = [table[word, path[word]] for word in range(span.start, span.end)]
        start = source.starts[span.start]
        end = source.starts[span.end - 1] + len(source.words[span.end - 1])
        prediction = Prediction(
            text=source.text[start:end],
            label=span.label,
            score=float(np.mean(chosen)),
            start=start,
            end=end,
        )
        if source.were_words:
            prediction["word_start"], prediction["word_end"] = span.start, span.end
        found.append(prediction)
    return found
