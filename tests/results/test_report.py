"""The reports show the facts, fetch nothing, and cope with every hole in the results."""

import io
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

from unmask.config import gray_codes
from unmask.recipe import PAPER
from unmask.results.about import About
from unmask.results.report import find_all, render_markdown, render_report, render_table

CORPUS: tuple[str, str] = ("made_up", "0" * 16)
ABOUT: dict[tuple[str, str], About] = {CORPUS: About(ceiling=0.9)}
VOID = {"meta", "br", "hr", "img", "link", "input"}


class PageReader(HTMLParser):
    """Collects text, tags and references, and checks that every element is closed."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.references, self.ids, self.open = "", [], [], [], []
        self.cells: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [v for k, v in attrs if k in ("href", "src", "xlink:href", "data")]
        self.ids += [v for k, v in attrs if k == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            assert "url(" not in data
            assert "@import" not in data
            return
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


@pytest.fixture
def sweep(make_result):
    results = [
        make_result(
            code, seed, 0.6 + 0.01 * num_open + 0.001 * (2 * seed - 3), 0.5 + 0.01 * num_open
        )
        for code in gray_codes(4)
        for seed in (1, 2)
        for num_open in [2 * code.count("1") + (code == "0111") * 3]
    ]
    return [*results, *(make_result("encoder", s, 0.61, 0.55, backbone="roberta") for s in (1, 2))]


def test_the_page_stands_alone(sweep):
    page = render_report(find_all(sweep), about=ABOUT)
    reader = PageReader(page)
    assert all(reference.startswith("#") for reference in reader.references)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert "http" not in page
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert len(reader.ids) == len(set(reader.ids))


def test_the_answer_comes_before_everything_else(sweep):
    text = PageReader(render_report(find_all(sweep))).text
    answer = text.index("Chosen on validation data: 0111")
    assert answer < text.index("Scores")
    assert text.index("+0.090") < text.index("Scores")
    gains = text[: text.index("Scores")]
    assert "95% interval" not in gains  # test scores do not vary here: no interval is made up
    assert "no interval, so nothing is certain" in text


def test_the_page_shows_scores_settings_costs_and_scoring(sweep):
    about: dict[tuple[str, str], About] = {
        CORPUS: About(("Tags were converted.",), settings={"limit train": "800"})
    }
    page = render_report(find_all(sweep), warnings=["x:3 torn"], about=about)
    reader = PageReader(page)
    for fact in (
        "Tags were converted.",
        "x:3 torn",
        "strict mode with scheme IOB2",
        "Training loss by optimizer step",
        "12.5 s of training",
        "Pearson correlation",
        "17 pairs",
        "On average, opening group",
    ):
        assert fact in reader.text
    for cell in (
        "0.690 ± 0.001",
        "0.590 ± 0.000",
        "roberta",
        "lora_alpha",
        "limit train",
        "800",
        "PER",
        "python",
        "0000",
    ):
        assert cell in reader.cells
    assert all(code in reader.cells for code in gray_codes(4))


def test_intervals_are_shown_where_seeds_vary(make_result):
    results = [
        make_result(code, seed, f1)
        for code, of_seeds in {"00": (0.5, 0.52, 0.51), "11": (0.6, 0.61, 0.65)}.items()
        for seed, f1 in enumerate(of_seeds)
    ]
    text = PageReader(render_report(find_all(results))).text
    assert "+0.110" in text
    assert "95% interval" in text
    assert "flatter the chosen configuration" in text


def test_the_ceiling_is_drawn_for_its_task_only(make_result):
    sections = find_all([make_result()])
    about = About(ceiling=0.9, ceiling_caption="causal at best")
    drawn = render_report(sections, about={CORPUS: about})
    assert "causal at best: 0.900" in PageReader(drawn).text
    elsewhere = render_report(sections, about={("other", "0" * 16): about})
    assert "causal at best" not in elsewhere


def test_text_from_results_is_escaped_everywhere(make_result):
    evil = "<script>alert('x')</script>&"
    results = [
        make_result(backbone=evil, task=evil, environment={evil: evil}),
        make_result("encoder", backbone=evil + "2", task=evil),
    ]
    page = render_report(
        find_all(results),
        title=evil,
        warnings=[evil],
        about={(evil, "0" * 16): About((evil,), 0.5, evil, {evil: evil})},
    )
    assert "<script" not in page
    assert "alert('x')" in PageReader(page).text
    assert "<" not in render_markdown(find_all(results), title=evil).replace(r"\<", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": None},
        {"test": 0.5},
        {"status": "diverged"},
        {"curves": {}},
        {"curves": {"train_loss": [float("nan")]}},
        {"timings": {"train_seconds": None}},
        {"environment": {}},
        {"config": "layers:0,5-7"},
        {"config": "encoder"},
        {"config": "01" * 16},
        {"scores": {"validation": {"f1": None}}},
        {"scores": {"validation": {"f1": 0.5}}},
    ],
)
def test_a_single_odd_result_still_makes_every_report(make_result, changes):
    results = [make_result(**changes)]
    assert "tiny" in PageReader(render_report(find_all(results))).text
    assert "tiny" in render_markdown(find_all(results))
    assert render_table(find_all(results)).row_count == 1


def test_learning_curves_show_loss_and_validation(make_result):
    loss = {"train_loss": [2.0, 1.0, 0.5]}
    page = render_report(find_all([make_result(curves=loss)]))
    assert 'aria-label="Training loss by step"' in page
    assert "--epoch-scores" in page
    assert 'aria-label="Validation F1 by step"' not in page
    both = {**loss, "validation_f1": [0.1, 0.2], "validation_step": [2.0, 3.0]}
    page = render_report(find_all([make_result(curves=both), make_result(seed=2, curves=loss)]))
    assert 'aria-label="Validation F1 by step"' in page
    assert "--epoch-scores" not in page


def test_what_was_not_measured_is_never_zero(make_result):
    reader = PageReader(
        render_report(find_all([make_result(validation=None, timings={}, scores={})]))
    )
    assert "not measured" in reader.cells
    assert not {"0", "0.0", "0.000"} & set(reader.cells)


def test_no_results_make_a_page_that_says_so():
    assert "There are no results yet." in PageReader(render_report([])).text
    assert "There are no results yet." in render_markdown([])
    assert render_table([]).row_count == 0


def test_several_tasks_backbones_and_recipes_make_one_section_each(make_result):
    quick = replace(PAPER, preset="quick")
    results = [
        make_result(),
        make_result(recipe=quick),
        make_result(task="chunks", backbone="small"),
        make_result("encoder", task="triggers", backbone="roberta"),
    ]
    reader = PageReader(render_report(find_all(results)))
    titles = [
        "made_up, tiny, recipe paper",
        "made_up, tiny, recipe quick",
        "chunks, small",
        "triggers, baselines only",
    ]
    assert all(reader.text.count(title) == 2 for title in titles)
    assert [one for one in reader.references if one.startswith("#section")] == [
        f"#section-{number}" for number in range(1, 5)
    ]
    assert all(
        f"## {title}".replace("_", r"\_") in render_markdown(find_all(results)) for title in titles
    )


def test_a_narrow_terminal_cuts_no_name(make_result, capsys):
    names = [f"an-encoder-with-a-rather-long-name@{number:02}" for number in (2, 4)]
    results = [make_result(), *(make_result("encoder", backbone=name) for name in names)]
    Console(width=70).print(render_table(find_all(results)))
    printed = capsys.readouterr().out
    assert "@02" in printed
    assert "@04" in printed
    assert "…" not in printed


def test_markdown_has_the_answer_the_gains_and_a_table(sweep):
    text = render_markdown(find_all(sweep))
    assert text.index("Chosen on validation data: 0111") < text.index("| configuration |")
    assert "| **0111** | **0.690 ± 0.001** | **0.590 ± 0.000** | **2** |" in text
    assert "+0.090 F1 over 0000 (all causal) on test" in text


def test_the_terminal_table_marks_the_choice(sweep):
    console = Console(file=io.StringIO(), width=120)
    console.print(render_table(find_all(sweep)))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert [line for line in lines if "(chosen)" in line and "0111" in line and "0.690" in line]
    assert sum("±" in line for line in lines) == 18


def test_a_page_of_many_sections_has_tables_but_no_figures(make_result):
    results = [make_result(task=f"task-{number}") for number in range(11)]
    page = render_report(find_all(results))
    assert "<svg" not in page
    assert "left out of a page of 11 sections" in PageReader(page).text
    assert page.count("The one configuration that was scored") == 11


def test_of_a_search_the_page_lists_the_best_and_says_so(make_result):
    codes = [format(number, "07b") for number in range(100)]
    results = [make_result(code, validation=int(code, 2) / 100) for code in codes]
    reader = PageReader(render_report(find_all(results)))
    assert "Every configuration: the best 64 of 100 on validation" in reader.text
    assert "100 configurations in Gray order" in reader.text
    assert "0100100" in reader.cells  # of 0.36, the sixty-fourth
    assert "0100011" not in reader.cells
