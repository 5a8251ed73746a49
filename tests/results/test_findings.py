"""What a group of results is said to show."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.config import UnmaskConfig, gray_codes
from unmask.results.findings import describe_code, find
from unmask.results.groups import group_results
from unmask.results.tables import (
    NOT_MEASURED,
    configurations_table,
    cost_in_words,
    costs_table,
    environment_table,
    format_p,
    labels_table,
    main_table,
    recipe_table,
)
from unmask.results.wording import (
    answer,
    gain_in_words,
    gains_footnote,
    layers_in_words,
    scoring_in_words,
    statistics_in_words,
    verdict,
)

VALIDATION = {"0000": 0.70, "1111": 0.80, "0011": 0.85, "0001": 0.82, "1000": 0.75}


def findings_of(results):
    (group,) = group_results(results)
    return find(group)


@pytest.fixture
def sweep(make_result):
    """Five configurations and an encoder, three seeds; test for the chosen, the ends, encoder."""
    found = []
    for seed, wobble in ((1, -0.01), (2, 0.0), (3, 0.02)):
        for code, f1 in VALIDATION.items():
            test = f1 - 0.1 + wobble**2 if code in ("0000", "1111", "0011") else None
            found.append(make_result(code, seed, f1 + wobble, test))
        found.append(make_result("encoder", seed, 0.83, 0.72, backbone="roberta"))
    return found


def test_the_main_table_has_both_ends_what_beats_all_open_and_baselines(sweep):
    rows = [row.name for row in findings_of(sweep).main_rows]
    assert rows == ["0000", "1111", "0011", "0001", "roberta"]


def test_gains_are_taken_on_test_where_both_sides_have_it(sweep):
    gains = findings_of(sweep).gains
    assert [(gain.against, gain.split) for gain in gains] == [
        ("0000", "test"),
        ("1111", "test"),
        ("roberta", "test"),
    ]
    assert gains[0].comparison.difference == pytest.approx(0.15)
    assert gains[1].comparison.difference == pytest.approx(0.05)


def test_gains_fall_back_to_validation_and_say_so(make_result):
    results = [make_result("00", validation=0.5), make_result("11", validation=0.6, test=0.6)]
    (gain,) = findings_of(results).gains
    assert gain.split == "validation"
    assert gain_in_words(gain) == (
        "+0.100 F1 over 00 (all causal) on validation. Over 1 shared seed: "
        "no interval, so nothing is certain."
    )


def test_an_interval_around_zero_is_not_called_a_gain(make_result):
    results = [
        make_result(code, seed, f1)
        for code, of_seeds in {"00": (0.5, 0.7, 0.6), "11": (0.7, 0.6, 0.61)}.items()
        for seed, f1 in enumerate(of_seeds)
    ]
    (gain,) = findings_of(results).gains
    assert "not told apart by these seeds" in gain_in_words(gain)


def test_the_answer_names_choice_scores_and_seeds(sweep):
    assert answer(findings_of(sweep)) == (
        "Chosen on validation data: 0011 (the best of 5), which opens groups 3 and 4 of 4 from the "
        "input. F1 is 0.853 ± 0.015 on validation and 0.750 ± 0.000 on test (mean and standard "
        "deviation over 3 seeds)."
    )


def test_without_validation_scores_nothing_is_chosen(make_result):
    findings = findings_of([make_result(validation=None)])
    assert findings.chosen is None
    assert "nothing to choose from" in answer(findings)


@pytest.mark.parametrize("code", ["1000", "0101", "0010", "1110"])
def test_layers_in_words_are_those_the_configuration_opens(code):
    words = describe_code(code, num_layers=30)
    ranges = words[words.index("(layers ") + 8 : words.index(" of 30")]
    named = UnmaskConfig.parse(f"layers:{ranges.replace(' ', '')}", num_layers=30)
    assert named.bidirectional == UnmaskConfig.from_code(code, 30).bidirectional


def test_other_codes_in_words():
    assert describe_code("0100") == "group 2 of 4 from the input"
    assert describe_code("1111", 32) == "every layer"
    assert describe_code("layers:0,5-7", 32) == "layers 0, 5-7, counted from 0"
    assert describe_code("0110", 4) == "layers 1-2 of 4"


def test_the_number_of_layers_comes_from_the_environment(make_result):
    recorded = [make_result(environment={"num_layers": "32"}) for _ in range(2)]
    assert findings_of(recorded).num_layers == 32
    assert findings_of([make_result()]).num_layers is None


def test_caveats_name_what_is_missing(make_result):
    results = [
        make_result("0000", 1),
        make_result("0000", 2),
        make_result("1111", 1, status="diverged"),
        make_result("0001", 1, scores={"validation": {"f1": 0.5, "mode": "default"}}),
    ]
    caveats = " ".join(findings_of(results).caveats)
    assert "1 of 4 runs diverged" in caveats
    assert "3 of the 16 configurations of 4 groups were run" in caveats
    assert "between 1 and 2 seeds" in caveats
    assert "not strict IOB2 but: default scheme" in caveats
    one_seed = findings_of([make_result()]).caveats
    assert "There is one seed only" in " ".join(one_seed)


def test_test_scores_of_what_was_not_chosen_are_pointed_out(make_result):
    codes = {"00": 0.5, "01": 0.7, "10": 0.6, "11": 0.5}
    results = [make_result(code, seed, f1, f1) for code, f1 in codes.items() for seed in (1, 2)]
    [caveat] = findings_of(results).caveats
    assert caveat.startswith(
        "1 configuration was scored on test besides the chosen one and both ends (10)"
    )


@settings(max_examples=25, deadline=None)  # each makes all findings
@given(st.lists(st.none() | st.floats(0, 1), min_size=15, max_size=15))
def test_no_test_score_changes_the_choice_or_an_order(make_result, test_scores):
    places = [(code, seed) for code in VALIDATION for seed in (1, 2, 3)]
    results = [
        make_result(code, seed, VALIDATION[code] + 0.001 * seed, test)
        for (code, seed), test in zip(places, test_scores, strict=True)
    ]
    findings = findings_of(results)
    assert findings.chosen is not None
    assert findings.chosen.name == "0011"
    assert [row.name for row in findings.main_rows] == ["0000", "1111", "0011", "0001"]
    best = configurations_table(findings, max_rows=2)
    assert [row[0] for row in best.rows] == ["0011", "0001"]


def test_a_complete_sweep_has_no_caveats(make_result):
    results = [make_result(code, seed) for code in gray_codes(2) for seed in (1, 2)]
    assert findings_of(results).caveats == ()


def test_tables_show_what_was_not_measured_as_such(make_result):
    findings = findings_of([make_result(validation=0.5, timings={})])
    assert main_table(findings).rows == [("0110", "0.500", NOT_MEASURED, "1")]
    assert costs_table(findings).rows == [("0110", NOT_MEASURED, NOT_MEASURED, NOT_MEASURED)]
    assert cost_in_words(findings.rows[0]) == f"Cost of one run of 0110: {NOT_MEASURED}"
    assert findings.chosen is not None
    labels = labels_table(findings.chosen)
    assert labels is not None
    assert labels.caption.endswith("test: not measured")
    assert labels.rows[0] == ("LOC", "15", "0.500", "0.500", "0.500")


def test_diverged_runs_are_counted_and_have_no_score(make_result):
    results = [make_result(seed=1, validation=0.5), make_result(seed=2, status="diverged")]
    table = configurations_table(findings_of(results))
    assert table.rows == [("0110", "0.500", NOT_MEASURED, "2, 1 diverged")]


def test_costs_are_means_in_their_units(make_result):
    timings = [
        {"train_seconds": 1000.0, "peak_memory_bytes": 2.0**31, "warmup": 0.5},
        {"train_seconds": 2000.0, "peak_memory_bytes": 2.0**31, "warmup": 0.7},
    ]
    results = [make_result(seed=n, timings=one) for n, one in enumerate(timings)]
    table = costs_table(findings_of(results))
    assert table.columns[-1] == "warmup"
    assert table.rows == [("0110", "1\u202f500", NOT_MEASURED, "2.0", "0.6")]


def test_the_recipe_table_marks_what_differs_from_the_paper(make_result):
    from unmask.recipe import PRESETS

    encoder = make_result("encoder", backbone="roberta")
    table = recipe_table(findings_of([make_result(recipe=PRESETS["quick"]), encoder]))
    assert table.columns == ("constant", "tiny", "roberta", "paper")
    marked = {table.rows[number][0]: table.rows[number][1:] for number in table.marked}
    assert marked["learning_rate"] == ("0.002", "0.0002", "0.0002")
    assert marked["quantization"] == ("none", "nf4", "nf4")
    assert "lora_rank" not in marked


def test_environments_that_differ_are_counted(make_result):
    results = [make_result(seed=n, environment={"gpu": name}) for n, name in enumerate("AAB")]
    table = environment_table(results)
    assert table is not None
    assert table.rows == [("gpu", "A (2 runs); B (1 run)")]
    assert environment_table([make_result(environment={})]) is None


def test_scoring_in_words_says_what_was_cut(make_result):
    assert "strict mode with scheme IOB2" in scoring_in_words([make_result()])
    text = scoring_in_words([make_result()])
    assert text.endswith("Words lost to truncation count as O; validation: 0 of 300 were cut off.")
    more = make_result()
    more.scores["validation"]["num_truncated_words"] = 7
    assert "; validation: 0 to 7 of 300 were cut off." in scoring_in_words([make_result(), more])


def three_codes(make_result, split="validation"):
    of_code = {"00": (0.50, 0.52, 0.51), "11": (0.58, 0.61, 0.59), "01": (0.6, 0.61, 0.65)}
    return [
        make_result(code, seed, f1, f1 if split == "test" else None)
        for code, of_seeds in of_code.items()
        for seed, f1 in enumerate(of_seeds)
    ]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_gains_are_corrected_for_all_that_are_shown_and_for_the_choice(make_result, split):
    larger, smaller = sorted(
        findings_of(three_codes(make_result, split)).gains,
        key=lambda gain: -(gain.comparison.p_value or 0),
    )
    assert smaller.split == split
    assert smaller.comparison.p_value is not None
    assert larger.comparison.p_value is not None
    # Two comparisons, and two configurations that could have been chosen in place of the third.
    assert smaller.p_corrected == pytest.approx(2 * 2 * smaller.comparison.p_value)
    assert larger.p_corrected == pytest.approx(2 * larger.comparison.p_value)
    assert f"(corrected {format_p(smaller.p_corrected)})" in gain_in_words(smaller)
    assert "times 2 for the configurations" in gains_footnote([smaller, larger])
    assert verdict(replace(smaller, p_corrected=0.049)) == "better beyond the noise of the seeds"
    unsure = verdict(replace(smaller, p_corrected=0.051))
    assert unsure == "better, but not surely so once corrected"


@pytest.mark.parametrize(("split", "rivals"), [("validation", 2), ("test", 1)])
def test_only_sentences_that_chose_are_corrected_for_the_choice(make_result, split, rivals):
    wrong = {"00": 24, "11": 18, "01": 10}  # of 20 sentences of four spans, in every seed

    def counts_of(run, split):
        lost, more = divmod(wrong[run.config], 20)
        return [(4 - lost - (index < more), 4, 4) for index in range(20)]

    (group,) = group_results(three_codes(make_result, split))
    gains = find(group, counts_of).gains
    said = "so there it is times 2 over sentences as well" in gains_footnote(gains)
    assert said == (split == "validation")
    found = [one.over_sentences for one in gains]
    larger, smaller = sorted((one for one in found if one), key=lambda one: -one.p_value)
    assert smaller.p_holm == pytest.approx(2 * rivals * smaller.p_value)
    assert larger.p_holm == pytest.approx(rivals * larger.p_value)


def test_two_configurations_leave_no_choice_to_correct_for(make_result):
    results = [one for one in three_codes(make_result) if one.run.config != "01"]
    (gain,) = findings_of(results).gains
    assert gain.p_corrected == gain.comparison.p_value
    assert "could have been chosen" not in gains_footnote([gain])


def test_the_answer_says_when_splits_have_different_seeds(make_result):
    results = [make_result("01", seed, 0.5 + seed / 100, None) for seed in (2, 3)]
    results += [make_result(code, 1, f1, 0.4) for code, f1 in (("01", 0.6), ("00", 0.2))]
    text = answer(findings_of(results))
    assert "01 (the best of 2)" in text
    assert "and 0.400 on test" in text
    assert text.endswith(
        "(mean and standard deviation over 3 seeds on validation, 1 seed on test)."
    )


def test_tests_are_reported_with_their_observations(make_result):
    results = [
        make_result(code, seed, 0.5 + 0.02 * int(code, 2) + 0.001 * seed * int(code, 2) ** 2 / 9)
        for code in gray_codes(4)
        for seed in (1, 2, 3)
    ]
    published, over_seeds = statistics_in_words(findings_of(results))
    assert "over 17 pairs, one-sided paired t test on 17 observations" in published
    assert "on 3 observations" in over_seeds


def test_what_was_scored_alone_is_not_called_a_choice(make_result):
    text = answer(findings_of([make_result("0110", 1, 0.5)]))
    assert text.startswith(
        "The one configuration that was scored: 0110, which opens groups 2 and 3"
    )
    assert text.endswith("F1 is 0.500 on validation and not yet scored on test (1 seed).")


@pytest.mark.parametrize(
    ("of_code", "text"),
    [
        ({"00": 0.5, "01": 0.7, "10": 0.6, "11": 0.8}, "opening group 2 raises F1 most: +0.200. "),
        (
            {"00": 0.8, "01": 0.6, "10": 0.7, "11": 0.5},
            "opening no group raises F1, group 1 comes nearest to it: -0.100. ",
        ),
        (
            {"00": 0.52, "01": 0.52 - 1e-9, "10": 0.52 - 1e-9, "11": 0.52 - 1e-9},
            "opening no group raises F1, group 1 comes nearest to it: +0.000. ",
        ),
    ],
)
def test_the_best_group_is_said_to_raise_only_what_it_raises(make_result, of_code, text):
    findings = findings_of([make_result(code, 1, f1) for code, f1 in of_code.items()])
    assert f"On average, {text}" in layers_in_words(findings)


def test_fewer_seeds_on_test_stand_in_the_table(make_result):
    results = [make_result("00", 1, 0.5, 0.4), make_result("00", 2, 0.6)]
    assert main_table(findings_of(results)).rows[0][-1] == "2, 1 on test"


def test_an_unfinished_sweep_says_which_seeds_choose(make_result):
    results = [make_result("01", seed, 0.5) for seed in (1, 2, 3)]
    shared = [*results, make_result("00", 2, 0.9), make_result("00", 3, 0.9)]
    assert "made over the seeds that all have: 2, 3." in " ".join(findings_of(shared).caveats)
    apart = [*results, make_result("00", 4, 0.9)]
    assert "No seed is common to all" in " ".join(findings_of(apart).caveats)
    even = [*results, *(make_result("00", seed, 0.9) for seed in (1, 2, 3))]
    assert "choice is made" not in " ".join(findings_of(even).caveats)
