"""The pairs of the published test, counted and tested independently."""

import math
from itertools import product

import numpy as np
import pytest

from unmask.config import gray_codes
from unmask.results.output_side import output_side_pairs, pair_tests, published_test, seed_test


def test_four_groups_make_seventeen_pairs():
    assert len(output_side_pairs(gray_codes(4))) == 17


@pytest.mark.parametrize(("num_bits", "num_pairs"), [(1, 0), (2, 1), (3, 5), (5, 49)])
def test_other_numbers_of_groups_make_as_many_pairs_as_counted_by_hand(num_bits, num_pairs):
    # A last 1 with k bits after it: 2^(bits - k - 1) prefixes, 2^k - 1 ways to open more.
    counted = sum(2 ** (num_bits - k - 1) * (2**k - 1) for k in range(num_bits))
    assert counted == num_pairs == len(output_side_pairs(gray_codes(num_bits)))


def test_the_pairs_of_one_configuration_are_those_the_paper_lists():
    partners = {longer for shorter, longer in output_side_pairs(gray_codes(4)) if shorter == "0100"}
    assert partners == {"0101", "0110", "0111"}
    starts = {shorter for shorter, _ in output_side_pairs(gray_codes(4))}
    assert starts == {"0010", "0100", "0110", "1000", "1010", "1100", "1110"}


def test_only_configurations_that_were_run_make_pairs():
    assert output_side_pairs(["10", "100", "101", "layers:0"]) == [("100", "101")]


def made_up(generator, gain):
    return {
        code: {seed: 0.5 + gain * int(code, 2) + generator.normal(0, 0.01) for seed in range(5)}
        for code in gray_codes(4)
    }


def upper_tail(statistic, degrees):
    """P(T > statistic) of Student's t by the finite series that holds for even degrees.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.4.
    """
    assert degrees % 2 == 0
    angle = math.atan(statistic / math.sqrt(degrees))
    term, total = 1.0, 1.0
    for k in range(2, degrees, 2):
        term *= (k - 1) / k * math.cos(angle) ** 2
        total += term
    return (1 - math.sin(angle) * total) / 2


def one_sided_p(differences):
    differences = np.asarray(differences)
    statistic = differences.mean() / (differences.std(ddof=1) / np.sqrt(len(differences)))
    return upper_tail(statistic, len(differences) - 1)


def test_the_series_gives_the_values_of_the_tables():
    # One-sided 5 % and 1 % points, as every table of t prints them.
    for degrees, five, one in ((2, 2.920, 6.965), (4, 2.132, 3.747), (16, 1.746, 2.583)):
        assert upper_tail(five, degrees) == pytest.approx(0.05, abs=1e-4)
        assert upper_tail(one, degrees) == pytest.approx(0.01, abs=1e-4)


def test_the_published_test_is_a_paired_t_over_the_pairs():
    scores = made_up(np.random.default_rng(0), gain=0.0)
    means = {code: float(np.mean(list(of.values()))) for code, of in scores.items()}
    found = published_test(scores)
    assert found is not None
    gains = [means[longer] - means[shorter] for shorter, longer in output_side_pairs(means)]
    assert (found.num_pairs, found.num_observations) == (17, 17)
    assert found.gain == pytest.approx(np.mean(gains))
    assert found.p_value == pytest.approx(one_sided_p(gains))


def test_the_two_sample_test_of_the_papers_text_stands_beside_it():
    scores = made_up(np.random.default_rng(4), gain=0.01)
    means = {code: float(np.mean(list(of.values()))) for code, of in scores.items()}
    found = published_test(scores)
    assert found is not None
    shorter, longer = np.array(
        [(means[one], means[other]) for one, other in output_side_pairs(means)]
    ).T
    # Student's: the pooled variance of both sides, 17 + 17 - 2 degrees of freedom.
    pooled = (shorter.var(ddof=1) + longer.var(ddof=1)) / 2
    statistic = (longer.mean() - shorter.mean()) / np.sqrt(pooled * 2 / 17)
    assert found.p_two_sample == pytest.approx(upper_tail(statistic, 32))
    sound = seed_test(scores)
    assert sound is not None
    assert sound.p_two_sample is None


def test_the_published_test_holds_each_pair_against_its_own_seeds():
    codes = ["".join(bits) for bits in product("01", repeat=4)]
    # Opening adds .1 a group in both seeds; the second seed is .3 worse, and one code lacks it.
    scores = {code: {1: 0.1 * code.count("1"), 2: 0.1 * code.count("1") - 0.3} for code in codes}
    whole = published_test(scores)
    del scores["1000"][2]
    found = published_test(scores)
    assert found is not None
    assert whole is not None
    assert (found.gain, found.num_pairs) == (pytest.approx(whole.gain), 17)
    scores["1000"] = {3: 0.9}
    without = published_test(scores)
    assert without is not None
    assert without.num_pairs == 10  # the seven pairs of 1000 share no seed


def test_the_sound_test_counts_seeds_not_pairs():
    scores = made_up(np.random.default_rng(1), gain=0.0)
    found = seed_test(scores)
    assert found is not None
    gains = [
        np.mean([scores[b][seed] - scores[a][seed] for a, b in output_side_pairs(scores)])
        for seed in range(5)
    ]
    assert (found.num_pairs, found.num_observations) == (17, 5)
    assert found.p_value == pytest.approx(one_sided_p(gains))


def test_a_real_gain_near_the_output_is_found_by_every_test():
    scores = made_up(np.random.default_rng(2), gain=0.05)
    for found in (published_test(scores), seed_test(scores)):
        assert found is not None
        assert found.p_value is not None
        assert found.p_value < 1e-3
    pairs = pair_tests(scores)
    assert len(pairs) == 17
    assert all(pair.p_value <= pair.p_holm < 0.05 for pair in pairs)


def test_a_loss_near_the_output_is_not_called_a_gain():
    found = seed_test(made_up(np.random.default_rng(3), gain=-0.05))
    assert found is not None
    assert found.gain < 0
    assert found.p_value is not None
    assert found.p_value > 0.99


def test_too_little_to_test_claims_nothing():
    assert published_test({"0000": {1: 0.5}, "1111": {1: 0.6}}) is None
    assert seed_test({"0000": {1: 0.5}, "1111": {1: 0.6}}) is None
    assert seed_test({"10": {1: 0.5}, "11": {2: 0.6}}) is None
    single = seed_test({"10": {1: 0.5}, "11": {1: 0.6}})
    assert single is not None
    assert (single.p_value, single.num_observations) == (None, 1)
    assert pair_tests({"10": {1: 0.5}, "11": {1: 0.6}}) == []
