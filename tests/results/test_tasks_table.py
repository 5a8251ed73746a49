"""The paper's table 2 comes out of the paper's own means."""

from dataclasses import replace

from unmask.recipe import PAPER
from unmask.results.findings import find
from unmask.results.groups import group_results
from unmask.results.published import ENCODERS, TASKS, VALIDATION_AND_TEST
from unmask.results.report import find_all, render_markdown, render_report
from unmask.results.table_files import latex
from unmask.results.tasks_table import tasks_table

SPLITS = ("validation", "test")


def published_results(make_result):
    results = []
    for model, of_code in VALIDATION_AND_TEST.items():
        for code, of_tasks in of_code.items():
            for task, scores in zip(TASKS, of_tasks, strict=True):
                if scores is not None:
                    results.append(make_result(code, 1, *scores, backbone=model, task=task))
    for model, of_tasks in ENCODERS.items():
        for task, scores in zip(TASKS, of_tasks, strict=True):
            results.append(make_result("encoder", 1, *scores, backbone=model, task=task))
    return results


def test_the_published_table_comes_out_cell_by_cell(make_result):
    table = tasks_table(find_all(published_results(make_result)))
    assert table is not None
    assert table.columns == ("", *(f"{task} {split}" for task in TASKS for split in SPLITS))
    expected = [
        (f"{model} {code}", *cells(of_tasks))
        for model, of_code in VALIDATION_AND_TEST.items()
        for code, of_tasks in of_code.items()
    ]
    expected += [(model, *cells(of_tasks)) for model, of_tasks in ENCODERS.items()]
    assert table.rows == expected
    assert table.ruled == {3, 6}


def cells(of_tasks):
    return [
        cell
        for scores in of_tasks
        for cell in (("-", "-") if scores is None else (f"{one:.3f}" for one in scores))
    ]


def test_a_configuration_has_numbers_only_where_it_surpasses_all_open(make_result):
    scores = {"one": {"00": 0.5, "11": 0.6, "01": 0.7}, "two": {"00": 0.5, "11": 0.6, "01": 0.4}}
    results = [
        make_result(code, validation=f1, task=task)
        for task, of_code in scores.items()
        for code, f1 in of_code.items()
    ]
    table = tasks_table(find_all(results))
    assert table is not None
    assert table.rows[2] == ("tiny 01", "0.700", "-")


def test_a_test_split_has_a_column_where_something_was_scored_on_it(make_result):
    results = [make_result(code, 1, 0.6, task=task) for task in "ab" for code in ("00", "11")]
    results += [make_result("01", 1, 0.7, 0.4, task="b")]
    table = tasks_table(find_all(results))
    assert table is not None
    assert table.columns == ("", "a validation", "b validation", "b test")
    assert ("tiny 00", "0.600", "0.600", "not measured") in table.rows


def test_one_task_needs_no_such_table(make_result):
    assert tasks_table(find_all([make_result()])) is None


def test_every_kind_of_report_has_it(make_result):
    sections = find_all(published_results(make_result)[:2])
    assert "Mean F1 by task" in render_report(sections)
    assert "| Llama2-7B 0000 | 0.788 | 0.744 | 0.430 | 0.482 |" in render_markdown(sections)
    assert "Llama2-7B 0000 & 0.788 & 0.744 & 0.430 & 0.482" in latex(sections)


def test_the_overview_has_the_gain_over_the_best_encoder(make_result):
    results = [one for one in published_results(make_result) if one.run.backbone != "Mistral-7B"]
    page = render_report([one for one in find_all(results) if one.group.task in ("NER", "ACE05")])
    start = page.index("The choice for each task")
    rows = page[start : page.index("</table>", start)].split("<tr>")
    gains = [row.rpartition("<td>")[2].partition("</td>")[0] for row in rows[2:]]
    # .920 less .900, and .616 less .628, both of RoBERTa-large.
    assert gains == ["+0.020", "-0.012"]


def test_parts_of_a_corpus_and_recipes_have_rows_of_their_own(make_result):
    of_a, of_b = ({"data_fingerprint": letter * 16} for letter in "ab")
    other = replace(PAPER, learning_rate=0.001)
    results = [make_result(task="other"), make_result("1111", task="other")]
    for f1, of_data, recipe in ((0.2, of_a, PAPER), (0.4, of_b, PAPER), (0.6, of_b, other)):
        for code in ("0000", "1111"):
            results.append(make_result(code, validation=f1, recipe=recipe, **of_data))
    for f1, of_data in ((0.3, of_a), (0.5, of_b)):
        results.append(make_result("encoder", backbone="roberta", validation=f1, **of_data))
    sizes = {("made_up", "a" * 16): {"training": 8}, ("made_up", "b" * 16): {"training": 40}}
    table = tasks_table([find(group) for group in group_results(results, sizes)])
    assert table is not None
    of_made_up = table.columns.index("made_up validation")
    shown = {row[0]: row[of_made_up] for row in table.rows if row[of_made_up] != "-"}
    assert sorted(f1 for name, f1 in shown.items() if name.endswith(" 1111")) == [
        "0.200",
        "0.400",
        "0.600",
    ]
    assert [f1 for name, f1 in shown.items() if name.startswith("roberta")] == ["0.300", "0.500"]
    assert any(name.endswith(", 8 training sentences 1111") for name in shown)
