"""Layer effects against means taken by hand and scores whose effects are known."""

import itertools

import numpy as np
import pytest

from unmask.config import gray_codes
from unmask.results.layer_effects import layer_effects

CODES = gray_codes(4)
ADDS = (-0.02, 0.0, 0.05, 0.11)


def additive(seeds=(1, 2, 3), codes=CODES, noise=0.0):
    rng = np.random.default_rng(120)
    return {
        code: {
            seed: 0.5
            + sum(gain for gain, bit in zip(ADDS, code, strict=True) if bit == "1")
            + 0.01 * seed
            + noise * rng.normal()
            for seed in seeds
        }
        for code in codes
    }


def differences(effects, question):
    return [getattr(one, question).difference for one in effects]


def test_effects_that_add_up_are_found_by_every_question():
    effects = layer_effects(additive())
    for question in ("average", "alone", "last"):
        assert differences(effects, question) == pytest.approx(ADDS)
    assert [one.number for one in effects] == [1, 2, 3, 4]


def test_with_all_configurations_the_average_is_the_mean_with_the_bit_minus_without():
    scores = additive(noise=0.03)
    effects = layer_effects(scores)
    for bit, effect in enumerate(effects):
        by_seed = [
            np.mean([scores[code][seed] for code in scores if code[bit] == "1"])
            - np.mean([scores[code][seed] for code in scores if code[bit] == "0"])
            for seed in (1, 2, 3)
        ]
        assert effect.average is not None
        assert effect.average.difference == pytest.approx(np.mean(by_seed))
        # A paired t interval over three seeds, from the table: t(.975, 2) = 4.30265.
        half = 4.30265 * np.std(by_seed, ddof=1) / np.sqrt(3)
        assert effect.average.interval == pytest.approx(
            (np.mean(by_seed) - half, np.mean(by_seed) + half), abs=1e-6
        )


def test_groups_that_need_each_other_are_told_from_groups_that_add_up():
    # Only together do the two groups help: alone nothing, last all of it, on average half.
    scores = {code: {1: 0.8 if code == "11" else 0.5} for code in gray_codes(2)}
    effects = layer_effects(scores)
    assert differences(effects, "alone") == pytest.approx([0.0, 0.0])
    assert differences(effects, "last") == pytest.approx([0.3, 0.3])
    assert differences(effects, "average") == pytest.approx([0.15, 0.15])


def test_part_of_the_configurations_is_enough_where_effects_add_up():
    codes = ("0000", "1000", "0110", "0011", "1111", "0101")
    effects = layer_effects(additive(codes=codes))
    assert differences(effects, "average") == pytest.approx(ADDS)
    assert [one.alone is None for one in effects] == [False, True, True, True]


def test_too_few_configurations_say_nothing_on_average():
    effects = layer_effects(additive(codes=("0000", "0001", "1111")))
    assert all(one.average is None for one in effects)
    assert [one.alone is not None for one in effects] == [False, False, False, True]
    assert layer_effects({"0110": {1: 0.5}}) == ()
    assert layer_effects({"layers:1,2": {1: 0.5}}) == ()


def test_p_values_are_corrected_for_the_number_of_groups():
    effects = layer_effects(additive(noise=0.01))
    raw = [one.average.p_value for one in effects if one.average and one.average.p_value]
    assert len(raw) == 4
    ranked = sorted(raw)
    steps = [(4 - rank) * p for rank, p in enumerate(ranked)]
    by_definition = dict(
        zip(ranked, itertools.accumulate((min(1.0, s) for s in steps), max), strict=True)
    )
    assert [one.p_holm for one in effects] == pytest.approx([by_definition[p] for p in raw])


def test_groups_are_named_by_their_layers():
    effects = layer_effects(additive(), num_layers=30)
    assert [one.name for one in effects] == ["0-7", "8-15", "16-22", "23-29"]
    assert layer_effects(additive())[0].name == "group 1"
    assert [one.name for one in layer_effects(additive(), num_layers=4)] == ["0", "1", "2", "3"]


def test_the_commonest_length_of_code_is_used():
    mixed = {**additive(), "00": {1: 0.1}, "11": {1: 0.9}, "layers:0": {1: 0.9}}
    assert differences(layer_effects(mixed), "average") == pytest.approx(ADDS)
