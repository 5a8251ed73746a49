from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.instruct.seqgpt_rouge import longest_common, rouge, tokens


def slow_longest_common(left: str, right: str) -> int:
    """The textbook table."""
    rows = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, a in enumerate(left, 1):
        for j, b in enumerate(right, 1):
            rows[i][j] = rows[i - 1][j - 1] + 1 if a == b else max(rows[i - 1][j], rows[i][j - 1])
    return rows[-1][-1]


@given(st.text("abc", max_size=70), st.text("abc", max_size=70))
def test_the_longest_common_subsequence_is_that_of_the_table(left, right):
    assert longest_common(left, right) == slow_longest_common(left, right)


def test_scores_are_those_of_a_worked_example():
    # police killed the gunman / police kill the gunman: 3 of 4 words, 1 of 3 bigrams, LCS 3.
    scores = rouge("police killed the gunman", "police kill the gunman")
    assert scores == pytest.approx(
        {"rouge1": 0.75, "rouge2": 1 / 3, "rougeL": 0.75, "mean": 11 / 18}
    )
    assert rouge("the gunman kill police", "police killed the gunman")["rougeL"] == 0.5


@given(st.text("中文经济ab 1,", min_size=1).filter(lambda text: tokens(text)))
def test_equal_strings_score_one_in_any_script(text):
    assert rouge(text, text)["mean"] == 1.0


def test_the_usual_tokenizer_sees_no_chinese_and_no_bigram_in_one_word():
    assert rouge("经济", "经济", "hf_default")["mean"] == 0.0
    assert rouge("economy", "economy", "hf_default")["mean"] == pytest.approx(2 / 3)


def test_an_unknown_tokenizer_is_named():
    with pytest.raises(ValueError, match="tokenizer must be one of cjk, hf_default, got 'jieba'"):
        tokens("x", "jieba")
