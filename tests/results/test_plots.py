"""Figures hold the numbers they were given, and their SVG stands on its own."""

import math
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from matplotlib.image import imread

from unmask.config import gray_codes
from unmask.results.figures import COLORS, save_png, to_svg
from unmask.results.plots import configuration_figure, curve_figure, score_figure


@pytest.fixture
def sweep(make_result):
    """All sixteen configurations with two seeds; 0.6 + 0.02 * value of the code, +- 0.01."""
    return [
        make_result(code, seed, validation=0.6 + 0.02 * int(code, 2) + wobble)
        for code in gray_codes(4)
        for seed, wobble in ((1, -0.01), (2, 0.01))
    ]


def axes_of(figure) -> Any:
    return figure.axes[0]


def tick_labels(figure):
    return [label.get_text() for label in axes_of(figure).get_xticklabels()]


def lines_by_label(figure):
    return {line.get_label(): line for line in axes_of(figure).lines}


def test_configurations_stand_in_gray_order_at_their_means(sweep):
    figure = configuration_figure(list(reversed(sweep)))
    assert tick_labels(figure) == list(gray_codes(4))
    line = lines_by_label(figure)["validation, mean ± sd"]
    assert list(line.get_ydata()) == pytest.approx([0.6 + 0.02 * int(c, 2) for c in gray_codes(4)])


def test_the_band_is_one_sample_standard_deviation(sweep):
    (band,) = axes_of(configuration_figure(sweep)).collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert max(heights) == pytest.approx(0.9 + 0.01 * math.sqrt(2))
    assert min(heights) == pytest.approx(0.6 - 0.01 * math.sqrt(2))


def test_test_scores_of_a_few_configurations_are_points_not_a_line(make_result):
    results = [
        make_result(code, test=0.7 if code in ("00", "10") else None) for code in gray_codes(2)
    ]
    lines = [line for line in axes_of(configuration_figure(results)).lines if len(line.get_xdata())]
    orange = [line for line in lines if line.get_color() == COLORS["series-2"]]
    assert {tuple(line.get_xdata()) for line in orange if line.get_marker() == "s"} == {(0,), (3,)}


def test_baselines_and_the_ceiling_are_horizontal_lines(sweep, make_result):
    encoder = [make_result("encoder", seed, 0.7 + seed / 100) for seed in (1, 3)]
    figure = configuration_figure(sweep, {"roberta": encoder}, ceiling=0.95, chosen="1111")
    heights = [line.get_ydata()[0] for line in axes_of(figure).lines if len(line.get_ydata()) == 2]
    assert heights == pytest.approx([0.72, 0.95])
    legend = [text.get_text() for text in axes_of(figure).get_legend().get_texts()]
    assert legend == ["validation, mean ± sd", "chosen: 1111", "roberta"]
    assert axes_of(figure).texts[0].get_text() == "best F1 a causal labeler can reach: 0.950"


def test_one_seed_is_not_called_a_mean(make_result):
    figure = configuration_figure([make_result(code) for code in gray_codes(2)])
    legend = [text.get_text() for text in axes_of(figure).get_legend().get_texts()]
    assert legend == ["validation, one seed"]


def test_layer_sets_are_not_joined_to_codes(make_result):
    results = [make_result(code) for code in ("00", "11", "layers:0", "layers:1")]
    figure = configuration_figure(results)
    joined = [list(line.get_xdata()) for line in axes_of(figure).lines if line.get_marker() == "o"]
    assert joined == [[0, 1], [2], [3]]


def test_no_results_at_all_still_make_a_figure():
    assert tick_labels(configuration_figure([])) == []


def test_a_learning_curve_is_the_mean_over_seeds_without_what_is_not_finite():
    figure = curve_figure({"0110": [[4.0, 2.0, 1.0], [2.0, math.nan]]})
    line = lines_by_label(figure)["0110"]
    assert list(line.get_ydata()) == [3.0, 2.0, 1.0]
    assert axes_of(figure).get_yscale() == "log"


def test_scores_on_the_way_are_means_over_the_seeds_that_were_scored_there():
    curves = {"0110": [[(2, 0.2), (4, 0.6)], [(2, 0.4), (4, 0.8), (6, 0.7)]], "0000": [[(2, 0.1)]]}
    figure = score_figure(curves)
    line = lines_by_label(figure)["0110"]
    assert list(line.get_xdata()) == [2, 4, 6]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.7, 0.7])
    losses = lines_by_label(curve_figure({"0110": [[1.0]], "0000": [[1.0]]}))
    assert line.get_color() == losses["0110"].get_color()
    assert lines_by_label(figure)["0000"].get_color() == losses["0000"].get_color()


def test_long_curves_are_thinned_to_means_of_equal_stretches():
    figure = curve_figure({"loss": [[float(step) for step in range(1, 11)]]}, max_points=4)
    line = lines_by_label(figure)["loss"]
    assert list(line.get_xdata()) == [2.0, 5.0, 8.0, 10.0]
    assert list(line.get_ydata()) == [2.0, 5.0, 8.0, 10.0]


def test_curves_with_zeros_or_nothing_are_drawn_on_a_plain_scale():
    assert axes_of(curve_figure({"loss": [[1.0, 0.0]]})).get_yscale() == "linear"
    assert axes_of(curve_figure({"loss": [[math.nan]]})).get_yscale() == "linear"


def test_svg_is_well_formed_names_no_other_file_and_takes_the_colours_of_the_page(sweep):
    svg = to_svg(configuration_figure(sweep), "one", 'F1 of "all"')
    root = ET.fromstring(svg)
    assert root.get("aria-label") == 'F1 of "all"'
    assert "http" not in svg
    assert "var(--series-1)" in svg
    assert not [color for color in COLORS.values() if color in svg]
    assert "0110" in [element.text for element in root.iter("text")]


def test_every_id_of_a_figure_carries_its_prefix_and_every_reference_finds_one(sweep):
    svg = to_svg(configuration_figure(sweep), "two", "F1")
    elements = list(ET.fromstring(svg).iter())
    ids = {name for element in elements if (name := element.get("id"))}
    assert all(name.startswith("two-") for name in ids)
    references = {value[1:] for one in elements if (value := one.get("href"))}
    references |= {value[5:-1] for one in elements if (value := one.get("clip-path"))}
    assert references
    assert references <= ids


def test_names_are_never_read_as_formulas_or_markup(sweep):
    svg = to_svg(configuration_figure(sweep, {"<b>$x_1$</b>": sweep}), "three", "<F1>")
    assert "<b>$x_1$</b>" in [element.text for element in ET.fromstring(svg).iter("text")]


def test_drawing_twice_gives_the_same_svg(sweep):
    first, second = (to_svg(configuration_figure(sweep), "f", "F1") for _ in range(2))
    assert first == second


def test_png_has_the_size_asked_for(sweep, tmp_path):
    save_png(configuration_figure(sweep, size=(4.0, 3.0)), tmp_path / "figure.png", dpi=50)
    assert imread(tmp_path / "figure.png").shape[:2] == (150, 200)
