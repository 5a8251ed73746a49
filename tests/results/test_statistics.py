"""Statistics against worked examples, numpy and definitions; test_published.py has the paper."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.results.statistics import (
    best_configuration,
    choose_configuration,
    compare,
    f1_of,
    holm,
    seed_scores,
    summarize,
    validation_test_correlation,
)


def test_summary_is_the_mean_and_the_sample_standard_deviation():
    values = [0.91, 0.93, 0.9, 0.95, 0.92]
    summary = summarize(values)
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.num_seeds == 5


def test_one_seed_has_no_standard_deviation_and_none_has_no_mean():
    assert summarize([0.5]).sd is None
    with pytest.raises(ValueError, match="no mean of no values"):
        summarize([])


def test_scores_that_are_missing_null_or_of_diverged_runs_are_no_scores(make_result):
    assert f1_of(make_result(validation=None), "validation") is None
    assert f1_of(make_result(validation=math.nan), "validation") is None
    assert f1_of(make_result(validation=0.1, status="diverged"), "validation") is None
    assert f1_of(make_result(scores={"validation": {"f1": None}}), "validation") is None
    assert f1_of(make_result(validation=0.1), "validation") == 0.1


def test_test_scores_play_no_part_in_the_choice(make_result):
    better_on_test = make_result("0001", validation=0.5, test=1.0)
    better_on_validation = make_result("0010", validation=0.6, test=0.0)
    assert choose_configuration([better_on_test, better_on_validation]) == "0010"


def test_baselines_and_configurations_that_diverged_are_not_chosen(make_result):
    results = [
        make_result("0000", validation=0.5),
        make_result("0001", validation=0.9, seed=120),
        make_result("0001", validation=0.9, seed=121, status="diverged"),
        make_result("encoder", validation=0.99, backbone="roberta"),
    ]
    assert choose_configuration(results) == "0000"
    assert choose_configuration(results[1:]) == "0001"


def test_an_unfinished_sweep_is_compared_on_the_seeds_all_have():
    # Over all seeds 00 would win, with a lucky seed that 11 has not had yet.
    assert best_configuration({"00": {1: 0.5, 2: 0.9}, "11": {1: 0.6}}) == "11"
    assert best_configuration({"00": {2: 0.9}, "11": {1: 0.6}}) == "00"


def test_on_a_tie_the_configuration_that_opens_least_is_chosen():
    tied = {code: {1: 0.5} for code in ("1111", "0110", "1000", "0001", "layers:0,1")}
    assert best_configuration(tied) == "0001"


def test_nothing_to_choose_from_is_an_error(make_result):
    with pytest.raises(ValueError, match="no configuration has a validation score"):
        choose_configuration([make_result("encoder", backbone="roberta")])


def test_correlation_is_that_of_the_means_by_numpy(make_result):
    scores = {"00": ((0.5, 0.4), (0.6, 0.3)), "01": ((0.7, 0.6), (0.9, 0.5)), "11": ((0.6, 0.6),)}
    results = [
        make_result(code, seed, validation, test)
        for code, of_seeds in scores.items()
        for seed, (validation, test) in enumerate(of_seeds)
    ]
    means = np.array([np.mean(of_seeds, axis=0) for of_seeds in scores.values()])
    assert validation_test_correlation(results) == pytest.approx(np.corrcoef(means.T)[0, 1])


def test_correlation_needs_three_configurations_that_differ(make_result):
    two = [make_result(code, test=0.5) for code in ("00", "11")]
    assert validation_test_correlation(two) is None
    flat = [make_result(code, test=0.5) for code in ("00", "11", "01")]
    assert validation_test_correlation(flat) is None


def test_seed_scores_keep_what_was_scored(make_result):
    results = [make_result(seed=1, validation=0.5), make_result(seed=2, validation=None)]
    assert seed_scores(results, "validation") == {"0110": {1: 0.5}}
    assert seed_scores(results, "test") == {}


def test_comparison_is_the_paired_t_test_done_by_hand():
    first = {1: 0.90, 2: 0.93, 3: 0.91, 4: 0.99}
    second = {1: 0.88, 2: 0.90, 3: 0.90, 5: 0.10}
    found = compare(first, second)
    assert found is not None
    differences = np.array([0.02, 0.03, 0.01])
    # t(0.975, 2 degrees of freedom) = 4.30265 in any table; t = 0.02 / (0.01 / sqrt 3).
    half_width = 4.30265 * 0.01 / np.sqrt(3)
    assert found.num_seeds == 3
    assert found.difference == pytest.approx(differences.mean())
    assert found.interval == pytest.approx((0.02 - half_width, 0.02 + half_width), abs=1e-6)
    # With two degrees of freedom p = 1 - t / sqrt(t^2 + 2), a closed form.
    t = 0.02 / (0.01 / np.sqrt(3))
    assert found.p_value == pytest.approx(1 - t / np.sqrt(t**2 + 2))


def test_comparison_without_spread_or_seeds_claims_nothing():
    constant = compare({1: 0.3, 2: 0.5}, {1: 0.2, 2: 0.4})
    assert constant is not None
    assert constant.difference == pytest.approx(0.1)
    assert (constant.interval, constant.p_value) == (None, None)
    single = compare({1: 0.3}, {1: 0.1})
    assert single is not None
    assert single.interval is None
    assert compare({1: 0.3}, {2: 0.1}) is None


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, corrected in zip(p_values, adjusted, strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p)
    for one, other in itertools.combinations(range(len(p_values)), 2):
        if p_values[one] < p_values[other]:
            assert adjusted[one] <= adjusted[other]


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_as_the_step_down_procedure_does(p_values, level):
    # The procedure as its definition says: step up from the smallest p, stop at the first miss.
    ranked = sorted(p_values)
    num_rejected = 0
    for rank, p in enumerate(ranked):
        if (len(ranked) - rank) * p > level:
            break
        num_rejected += 1
    assert sum(p <= level for p in holm(p_values)) == num_rejected
