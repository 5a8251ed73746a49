"""Of the recipes that a search tried, those are shown within which something can be compared."""

from dataclasses import replace

from unmask.recipe import PAPER
from unmask.results.recipes import worth_showing

FAST, SLOW = replace(PAPER, learning_rate=1e-2), replace(PAPER, learning_rate=1e-5)


def test_recipes_of_one_configuration_are_left_out_and_counted(make_result):
    best = [make_result(code, recipe=FAST) for code in ("0000", "1111", "0110")]
    alone = [make_result("0011", seed, recipe=SLOW) for seed in (1, 2)]
    other_task = make_result("0000", recipe=SLOW, task="other")
    encoder = make_result("encoder", backbone="minilm-l6")
    shown, [note] = worth_showing([*best, *alone, other_task, encoder])
    assert shown == [*best, other_task, encoder]
    assert note.startswith("1 recipe was tried with one configuration only")
    assert "2 results" in note


def test_a_sweep_of_one_recipe_is_shown_whole(make_result):
    results = [make_result("0110"), make_result("0110", 121)]
    assert worth_showing(results) == (results, [])
