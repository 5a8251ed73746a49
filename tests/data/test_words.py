import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.data.words import split_words


def words_of(text):
    return [text[start:end] for start, end in split_words(text)]


@given(st.text())
def test_words_are_in_order_without_space_and_leave_only_space_behind(text):
    offsets = split_words(text)
    flat = [0, *(position for pair in offsets for position in pair), len(text)]
    assert flat == sorted(flat)
    for (start, end), gap_start in zip(offsets, [0, *(end for _, end in offsets)], strict=False):
        assert start < end
        assert not any(char.isspace() for char in text[start:end])
        assert not any(char.isalnum() for char in text[gap_start:start])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. O'Neil paid $3.50!", "Mr . O ' Neil paid $ 3 . 50 !"),
        ("state-of-the-art", "state - of - the - art"),
        ("हिन्दी में", "हिन्दी में"),
        ("東京へ", "東 京 へ"),
        ("re\u0301sume\u0301", "re\u0301sume\u0301"),
        ("نمی‌خواهم", "نمی‌خواهم"),
        ("❤\ufe0f ok", "❤\ufe0f ok"),
        ("\ufeffthe", "the"),
        (" \t\n", ""),
        ("", ""),
    ],
)
def test_scripts_and_punctuation(text, expected):
    assert words_of(text) == expected.split()
