from dataclasses import replace

import numpy as np
import pytest

from unmask.results.run import Run, RunResult
from unmask.scale.figure import checkpoint_figure, checkpoint_table, scores_by_task
from unmask.scale.settings import FINETUNING_RECIPE

FOUND = {  # backbone, code -> F1 of seeds 120 and 121
    ("encoder-00000001@00", "encoder"): (0.10, 0.20),
    ("decoder-00000002@00", "0000"): (0.30, 0.40),
    ("decoder-00000002@00", "1111"): (0.25, 0.30),
    ("encoder-00000001@05", "encoder"): (0.70, 0.80),
    ("decoder-00000002@05", "0000"): (0.50, 0.60),
    ("decoder-00000002@05", "1111"): (0.52, 0.64),
}


def results(task="ner", data="f"):
    return [
        RunResult(
            Run(backbone, task, code, seed, FINETUNING_RECIPE, data), {"validation": {"f1": f1}}
        )
        for (backbone, code), scores in FOUND.items()
        for seed, f1 in zip((120, 121), scores, strict=True)
    ]


def test_scores_stand_by_variant_checkpoint_and_seed():
    (study,) = scores_by_task(results())
    assert study.checkpoints == [0, 5]
    assert study.scores["decoder without mask"] == {
        0: {120: 0.25, 121: 0.30},
        5: {120: 0.52, 121: 0.64},
    }
    gain = study.gain(5)
    assert gain is not None
    assert gain.difference == pytest.approx(0.03)
    assert gain.num_seeds == 2


def test_the_table_has_means_spreads_and_the_gain():
    (study,) = scores_by_task(results())
    assert (
        "| 5 | 0.750 ± 0.071 | 0.550 ± 0.071 | 0.580 ± 0.085 | +0.030 |"
        in checkpoint_table(study).splitlines()
    )


def test_each_line_and_band_of_the_figure_is_mean_and_deviation():
    figure = checkpoint_figure(scores_by_task([*results(), *results("chunking")]))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == ["ner", "chunking"]
    lines = {line.get_label(): line for line in panels[0].lines}
    assert list(lines) == ["encoder", "decoder with mask", "decoder without mask"]
    assert np.asarray(lines["decoder with mask"].get_xdata()).tolist() == [0, 5]
    means = np.asarray(lines["decoder with mask"].get_ydata()).tolist()
    assert means == pytest.approx([0.35, 0.55])
    band = np.asarray(panels[0].collections[1].get_paths()[0].vertices)[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.35 - 0.0707, 0.55 + 0.0707), abs=1e-3)


def test_runs_of_other_studies_are_passed_over():
    other = replace(results()[0], run=replace(results()[0].run, backbone="tiny", config="0110"))
    assert scores_by_task([other]) == []
    with pytest.raises(ValueError, match="no fine-tuning of any checkpoint"):
        checkpoint_figure([])


def test_versions_of_the_data_are_never_averaged():
    with pytest.raises(ValueError, match=r"mixes several .* for ner, encoder; ner, decoder"):
        scores_by_task([*results(), *results(data="g")])
