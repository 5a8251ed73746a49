"""CSV holds every digit; LaTeX holds the paper's table."""

import csv
import io

import pytest

from unmask.results.report import find_all
from unmask.results.table_files import configurations_csv, latex, runs_csv


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def results(make_result):
    third = 1 / 3
    return [
        make_result("00", 1, third, 0.25, task='a "quoted", name'),
        make_result("00", 2, 0.5, None, task='a "quoted", name', timings={}),
        make_result("11", 1, 0.75, 0.5, task='a "quoted", name'),
    ]


def test_every_run_is_a_line_with_every_digit(results):
    rows = read(runs_csv(results))
    assert [row["run"] for row in rows] == [result.run.id for result in results]
    assert {row["task"] for row in rows} == {'a "quoted", name'}
    assert float(rows[0]["validation_f1"]) == 1 / 3
    assert rows[0]["train_seconds"] == "12.5"


def test_what_was_not_measured_is_an_empty_cell(results):
    row = read(runs_csv(results))[1]
    assert (row["test_f1"], row["train_seconds"]) == ("", "")


def test_configurations_have_means_deviations_and_the_choice(results):
    rows = read(configurations_csv(find_all(results)))
    assert [(row["configuration"], row["chosen"]) for row in rows] == [("00", "0"), ("11", "1")]
    assert float(rows[0]["validation_mean"]) == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert float(rows[0]["validation_sd"]) == pytest.approx((1 / 2 - 1 / 3) / 2**0.5)
    assert rows[0]["validation_seeds"] == "2"
    assert rows[1]["validation_sd"] == ""


def test_no_results_are_heads_of_tables_only():
    assert read(runs_csv([])) == read(configurations_csv([])) == []
    assert "begin" not in latex([])


def test_latex_marks_the_choice_and_escapes_what_latex_would_read(make_result):
    results = [
        make_result("00", 1, 0.5, task="wnut_17 & co"),
        make_result("11", 1, 0.75, 0.5, task="wnut_17 & co"),
        make_result("encoder", 1, 0.6, 0.4, task="wnut_17 & co", backbone="roberta"),
    ]
    text = latex(find_all(results))
    assert "\\caption{wnut\\_17 \\& co, tiny." in text
    assert "00 & 0.500 & -- & 1 \\\\" in text
    assert "\\textbf{11} & \\textbf{0.750} & \\textbf{0.500} & \\textbf{1} \\\\" in text
    assert "\\midrule\nroberta & 0.600 & 0.400 & 1 \\\\" in text
    assert text.count("{") == text.count("}")
