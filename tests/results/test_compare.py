"""Comparisons are paired, corrected, and say what they rest on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.results.compare import (
    Pair,
    compare_in_group,
    to_json,
    to_text,
)
from unmask.results.counts import counts_path, pooled, read_counts, write_counts
from unmask.results.groups import group_results

counts_rows = st.lists(
    st.tuples(st.integers(0, 3), st.integers(3, 5), st.integers(3, 5)), min_size=2, max_size=12
)


@settings(deadline=None)  # files
@given(counts_rows)
def test_counts_come_back_as_written(tmp_path_factory, rows):
    path = counts_path(tmp_path_factory.mktemp("run") / "new", "test")
    write_counts(path, rows)
    assert path.name == "counts.test.json"
    assert read_counts(path) == rows


def test_missing_counts_are_none_and_damaged_ones_are_refused(tmp_path):
    assert read_counts(tmp_path / "counts.test.json") is None
    (tmp_path / "counts.test.json").write_text("[[1, 2]]")
    with pytest.raises(ValueError, match=r"counts\.test\.json is damaged .*delete it to compare"):
        read_counts(tmp_path / "counts.test.json")


def test_counts_of_different_sentences_are_not_pooled():
    with pytest.raises(ValueError, match=r"different numbers of sentences.*\[1, 2\]"):
        pooled([[(1, 1, 1)], [(1, 1, 1), (0, 0, 1)]])


def make_group(make_result, f1_by_code, **changes):
    [group] = group_results(
        make_result(config=code, seed=seed, validation=f1, test=f1, **changes)
        for code, scores in f1_by_code.items()
        for seed, f1 in enumerate(scores)
    )
    return group


SCORES = {
    "0000": (0.80, 0.82, 0.81, 0.79),
    "0011": (0.84, 0.85, 0.86, 0.83),
    "1111": (0.85, 0.83, 0.84, 0.86),
}


def test_a_split_that_was_not_scored_is_named_with_the_way_to_score_it(make_result):
    [group] = group_results(
        make_result(config=code, seed=1, validation=0.5, test=None) for code in ("00", "11")
    )
    text = to_text(compare_in_group(group, ["00", "11"], "test", no_counts), group)
    assert "no seed that both were scored with on test (sweep --test all scores every" in text


def test_saved_labelers_are_compared_over_sentences_alone():
    text = to_text([Pair("one", "two", "file.txt", None, None)])
    assert text.splitlines() == [
        "one minus two, file.txt F1",
        "  over sentences: no counts per sentence were kept for both",
    ]


def no_counts(run, split):
    return None


def test_holm_corrects_over_all_pairs(make_result):
    pairs = compare_in_group(make_group(make_result, SCORES), list(SCORES), "test", no_counts)
    assert [(p.first, p.second) for p in pairs] == [
        ("0000", "0011"),
        ("0000", "1111"),
        ("0011", "1111"),
    ]
    raw = []
    for pair in pairs:
        assert pair.over_seeds is not None
        assert pair.over_seeds.p_value is not None
        raw.append(pair.over_seeds.p_value)
    smallest, middle, largest = sorted(raw)
    by_definition = {
        smallest: min(1, 3 * smallest),
        middle: max(min(1, 3 * smallest), min(1, 2 * middle)),
        largest: max(min(1, 3 * smallest), min(1, 2 * middle), largest),
    }
    assert [pair.p_holm for pair in pairs] == pytest.approx([by_definition[p] for p in raw])


def test_sentences_are_pooled_over_the_seeds_that_both_sides_kept(make_result):
    kept = {
        ("0000", 0): [(1, 2, 2), (0, 1, 1)],
        ("0000", 1): [(1, 1, 2), (1, 1, 1)],
        ("0011", 1): [(2, 2, 2), (1, 1, 1)],
    }
    [pair] = compare_in_group(
        make_group(make_result, SCORES, num_sentences=2),
        ["0011", "0000"],
        "test",
        lambda run, split: kept.get((run.config, run.seed)),
    )
    assert pair.over_sentences is not None
    assert pair.over_sentences.num_runs == 1
    assert pair.over_sentences.difference == pytest.approx(1.0 - 2 * 2 / (2 + 3))


def test_text_and_json_say_what_is_missing_and_show_both_tests(make_result):
    group = make_group(make_result, {**SCORES, "0001": (0.81, 0.82, 0.83, 0.80)})
    pairs = compare_in_group(group, ["0011", "0000"], "validation", no_counts)
    text = to_text(pairs, group)
    assert "0011 minus 0000, validation F1" in text
    assert "over seeds:     +0.0400 (95 %" in text
    assert "over sentences: no counts per sentence were kept for both" in text
    assert "chosen for its score is ahead partly by luck, on test as well" in text
    values = to_json(pairs, group)
    assert values["pairs"][0]["over_seeds"]["difference"] == pytest.approx(0.04)
    assert values["pairs"][0]["over_sentences"] is None


def test_published_and_sound_test_stand_side_by_side(make_result):
    scores = {"00": (0.5, 0.52), "10": (0.6, 0.63), "11": (0.7, 0.71), "01": (0.6, 0.61)}
    group = make_group(make_result, scores)
    pairs = compare_in_group(group, ["11", "10"], "test", no_counts)
    lines = to_text(pairs, group).splitlines()
    at = lines.index("opening more near the output, 1 pair, test F1")
    assert lines[at + 1].startswith("  published test: gain +0.0900")
    assert lines[at + 2].startswith("  over seeds:     gain +0.0900")
    assert lines[at + 2].endswith("2 seeds")


def test_unknown_or_single_names_are_refused(make_result):
    group = make_group(make_result, SCORES)
    with pytest.raises(ValueError, match="has no results of 0101; there are 0000, 0011, 1111"):
        compare_in_group(group, ["0000", "0101"], "test", no_counts)
    with pytest.raises(ValueError, match="two or more different"):
        compare_in_group(group, ["0000", "0000"], "test", no_counts)


def test_a_p_value_is_never_written_as_nought(make_result):
    tight = {"00": (0.5, 0.6, 0.7), "11": (0.9, 1.0 - 1e-7, 1.1 + 1e-7)}
    (pair,) = compare_in_group(make_group(make_result, tight), ["00", "11"], "test", no_counts)
    assert pair.over_seeds is not None
    assert pair.over_seeds.p_value is not None
    assert 0 < pair.over_seeds.p_value < 1e-5
    text = to_text([pair], make_group(make_result, tight))
    assert "p < 0.0001 (Holm p < 0.0001)" in text
    assert "0.0000" not in text


def test_one_seed_is_counted_as_one(make_result):
    group = make_group(make_result, {"00": (0.5,), "11": (0.6,)})
    (pair,) = compare_in_group(group, ["00", "11"], "test", no_counts)
    assert "1 shared seed\n" in to_text([pair], group)
    assert to_json([pair], group)["title"] == group.title


def test_counts_of_other_sentences_than_the_score_are_an_error_that_names_the_run(make_result):
    group = make_group(make_result, {"00": (0.5,), "11": (0.6,)})
    with pytest.raises(
        ValueError,
        match=rf"run {group.results[0].run.id} .*scored on 20 sentences of test, but its counts "
        r"are of 3; delete counts\.test\.json in its folder",
    ):
        compare_in_group(group, ["00", "11"], "test", lambda run, split: [(0, 1, 1)] * 3)
