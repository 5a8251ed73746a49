"""Resampling of sentences, against every draw enumerated."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.results.over_sentences import (
    bootstrap_over_sentences,
    compare_counts,
    randomization_p,
)

counts_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(3, 5), st.integers(3, 5)), min_size=2, max_size=12
)


@settings(max_examples=20, deadline=None)  # thousands of shuffles each
@given(counts_rows)
def test_a_side_against_itself_differs_by_nothing(rows):
    found = compare_counts(rows, rows)
    assert (found.difference, found.interval, found.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_randomization_agrees_with_all_swaps_counted_one_by_one():
    rng = random.Random(120)
    first = [(rng.randint(0, 2), 2, 2) for _ in range(8)]
    second = [(rng.randint(0, 2), 2, 2) for _ in range(8)]

    def f1(rows):
        return 2 * sum(c for c, _, _ in rows) / sum(p + g for _, p, g in rows)

    observed = abs(f1(first) - f1(second))
    as_extreme = 0
    for pattern in range(2**8):
        rows = [
            (b, a) if pattern >> index & 1 else (a, b)
            for index, (a, b) in enumerate(zip(first, second, strict=True))
        ]
        left, right = zip(*rows, strict=True)
        as_extreme += abs(f1(left) - f1(right)) >= observed - 1e-12
    # 4999 shuffles: three standard errors of a share are at most 0.021.
    assert randomization_p(first, second) == pytest.approx(as_extreme / 2**8, abs=0.022)


def test_bootstrap_over_sentences_is_close_to_all_resamples_enumerated():
    first = [(2, 2, 2), (0, 1, 1), (1, 1, 2), (1, 2, 1)]
    second = [(1, 2, 2), (0, 0, 1), (1, 1, 2), (1, 1, 1)]

    def difference(draw):
        sums = np.sum([(*first[i], *second[i]) for i in draw], axis=0)
        return 2 * sums[0] / (sums[1] + sums[2]) - 2 * sums[3] / (sums[4] + sums[5])

    every = [difference(draw) for draw in itertools.product(range(4), repeat=4)]
    found, low, high = bootstrap_over_sentences(first, second, num_resamples=5000)
    assert found == pytest.approx(difference(range(4)))
    assert low == pytest.approx(np.quantile(every, 0.025), abs=0.02)
    assert high == pytest.approx(np.quantile(every, 0.975), abs=0.02)


def test_bootstrap_over_sentences_copes_with_draws_without_spans():
    found, low, high = bootstrap_over_sentences([(1, 1, 1), (0, 0, 0)], [(0, 0, 1), (0, 0, 0)])
    assert (found, low, high) == (1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="cannot compare 1 sentences with 2"):
        bootstrap_over_sentences([(1, 1, 1)], [(1, 1, 1), (0, 0, 0)])
