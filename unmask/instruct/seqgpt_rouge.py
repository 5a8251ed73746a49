"""ROUGE-1, ROUGE-2 and ROUGE-L of short answers, in Chinese too.

The usual tokenizer of ROUGE keeps a-z and 0-9 only, so that two equal Chinese strings score 0.
Here "cjk" takes every Chinese, Japanese or Korean character and every other word as a token;
"hf_default" is the usual one, for comparison with published figures.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

TOKENIZERS = ("cjk", "hf_default")

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_CJK_TOKEN = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_ASCII_TOKEN = re.compile(r"[a-z0-9]+")


def tokens(text: str, tokenizer: str = "cjk") -> list[str]:
    """Lower-cased tokens; punctuation is dropped.

    >>> tokens("歌曲名: White Horse 2"), tokens("歌曲名: White Horse 2", "hf_default")
    (['歌', '曲', '名', 'white', 'horse', '2'], ['white', 'horse', '2'])
    """
    if tokenizer not in TOKENIZERS:
        raise ValueError(f"tokenizer must be one of {', '.join(TOKENIZERS)}, got {tokenizer!r}")
    pattern = _CJK_TOKEN if tokenizer == "cjk" else _ASCII_TOKEN
    return pattern.findall(text.lower())


def rouge(reference: str, answer: str, tokenizer: str = "cjk") -> dict[str, float]:
    """F-measures `rouge1`, `rouge2`, `rougeL` in 0..1, and their `mean`.

    Where neither side has an n-gram, as with bigrams of one word, "cjk" asks whether the tokens
    are equal; "hf_default" gives 0, as the usual implementation does.

    >>> rouge("Economy", "economy")["mean"], rouge("经济", "经济", "hf_default")["mean"]
    (1.0, 0.0)
    """
    wanted, found = tokens(reference, tokenizer), tokens(answer, tokenizer)
    undefined = float(tokenizer == "cjk" and wanted == found)
    scores = {
        "rouge1": _overlap(_ngrams(wanted, 1), _ngrams(found, 1), undefined),
        "rouge2": _overlap(_ngrams(wanted, 2), _ngrams(found, 2), undefined),
        "rougeL": _f_measure(longest_common(wanted, found), len(wanted), len(found), undefined),
    }
    return {**scores, "mean": sum(scores.values()) / 3}


def _ngrams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(size)), strict=False))


def _overlap(
    wanted: Counter[tuple[str, ...]], found: Counter[tuple[str, ...]], undefined: float
) -> float:
    return _f_measure((wanted & found).total(), wanted.total(), found.total(), undefined)


def _f_measure(hits: int, num_wanted: int, num_found: int, undefined: float) -> float:
    if not num_wanted and not num_found:
        return undefined
    return 2 * hits / (num_wanted + num_found)


def longest_common(left: Sequence[Hashable], right: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, a row of the table as bits of one number.

    Hyyrö (2004), "Bit-parallel LCS-length computation revisited".
    """
    places: dict[Hashable, int] = {}
    for index, token in enumerate(left):
        places[token] = places.get(token, 0) | 1 << index
    full = (1 << len(left)) - 1
    row = full
    for token in right:
        match = row & places.get(token, 0)
        row = ((row + match) | (row - match)) & full
    return len(left) - row.bit_count()
