"""Only results that may be compared end up together."""

from dataclasses import replace

import pytest

from unmask.config import gray_codes
from unmask.recipe import PAPER
from unmask.results.groups import (
    by_configuration,
    group_results,
    in_gray_order,
    is_fully_causal,
    is_fully_open,
    is_unmasking_code,
    num_open,
)


@pytest.mark.parametrize("num_bits", [1, 3, 4, 6])
def test_gray_order_is_that_of_the_configurations(num_bits):
    codes = gray_codes(num_bits)
    assert in_gray_order(sorted(codes)) == list(codes)


def test_shorter_codes_come_first_and_layer_sets_last():
    codes = ["layers:1", "0011", "01", "layers:0", "00"]
    assert in_gray_order(codes) == ["00", "01", "0011", "layers:0", "layers:1"]


def test_codes_are_told_from_baselines():
    assert [is_unmasking_code(code) for code in ("0110", "1", "layers:0,3", "encoder", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert is_fully_causal("000")
    assert not is_fully_causal("layers:0")
    assert is_fully_open("11")
    assert num_open("0110") == 2
    assert num_open("layers:0,3-5") == 4


def test_groups_differ_in_task_data_backbone_or_recipe(make_result):
    other = replace(PAPER, epochs=1)
    results = [
        make_result(),
        make_result(seed=121, config="0000"),
        make_result(recipe=other),
        make_result(backbone="small"),
        make_result(task="chunks"),
        make_result(data_fingerprint="f" * 16),
    ]
    groups = group_results(results)
    assert [len(group.results) for group in groups] == [2, 1, 1, 1, 1]
    assert groups[0].codes == ["0000", "0110"]


def test_baselines_stand_beside_every_decoder_of_their_task(make_result):
    encoder = make_result("encoder", backbone="roberta", recipe=replace(PAPER, lora_rank=8))
    results = [make_result(), make_result(backbone="small"), make_result(task="chunks"), encoder]
    groups = group_results(results)
    assert [list(group.baselines) for group in groups] == [["roberta"], ["roberta"], []]
    assert groups[0].every_result == [results[0], encoder]


def test_baselines_of_one_name_are_told_apart_by_recipe(make_result):
    recipes = [PAPER, replace(PAPER, preset="quick"), replace(PAPER, preset="quick", epochs=1)]
    encoders = [make_result("encoder", backbone="roberta", recipe=one) for one in recipes]
    instructed = make_result("instruct", backbone="roberta")
    (group,) = group_results([*encoders, instructed])
    assert list(group.baselines) == [
        "roberta",
        "roberta, preset quick, epochs 5",
        "roberta, preset quick, epochs 1",
        "roberta (instruct)",
    ]
    assert group.results == ()


def test_recipes_of_one_preset_are_told_apart_by_what_differs(make_result):
    recipes = [replace(PAPER, lora_rank=r, learning_rate=x) for r in (8, 16) for x in (1e-4, 2e-4)]
    groups = group_results([make_result(recipe=one) for one in recipes])
    start = groups[0].title.partition(", lora rank")[0]
    assert "recipe" not in start
    assert [group.title.removeprefix(start) for group in groups] == [
        ", lora rank 8, learning rate 0.0001",
        ", lora rank 8, learning rate 0.0002",
        ", lora rank 16, learning rate 0.0001",
        ", lora rank 16, learning rate 0.0002",
    ]


def test_a_baseline_by_the_decoder_s_own_recipe_is_the_one_to_compare_with(make_result):
    recipes = [PAPER, replace(PAPER, epochs=1)]
    decoders = [make_result(recipe=one) for one in recipes]
    encoders = [make_result("encoder", backbone="roberta", recipe=one) for one in recipes]
    groups = group_results([*decoders, *encoders])
    assert [group.baselines for group in groups] == [
        {"roberta": (encoders[0],)},
        {"roberta": (encoders[1],)},
    ]


def test_results_that_differ_in_recipe_are_not_averaged(make_result):
    results = [make_result(), make_result(seed=121, recipe=replace(PAPER, epochs=1))]
    with pytest.raises(ValueError, match=r"differ in recipe; results that differ in more"):
        by_configuration(results)


def test_a_run_that_appears_twice_counts_once(make_result):
    found = by_configuration([make_result(validation=0.9), make_result(validation=0.1)])
    assert [one.scores["validation"]["f1"] for one in found["0110"]] == [0.9]


def test_titles_tell_parts_of_a_corpus_apart_by_their_sentences(make_result):
    results = [make_result(data_fingerprint=letter * 16) for letter in "abcd"]
    sizes = {
        ("made_up", "a" * 16): {"training": 8, "validation": 20},
        ("made_up", "b" * 16): {"training": 40, "validation": 20},
        ("made_up", "c" * 16): {"training": 40, "validation": 20},
    }
    assert [group.title for group in group_results(results, sizes)] == [
        "made_up, tiny, 8 training sentences",
        "made_up, tiny, 40 training sentences, data bbbbbbbb",
        "made_up, tiny, 40 training sentences, data cccccccc",
        "made_up, tiny",
    ]
    assert group_results(results[:1], sizes)[0].title == "made_up, tiny"
