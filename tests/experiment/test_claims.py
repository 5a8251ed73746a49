import json
from statistics import fmean
from typing import Any

import pytest

from unmask.config import gray_codes
from unmask.experiment.claims import judge
from unmask.recipe import PRESETS
from unmask.results.ledger import Ledger
from unmask.results.output_side import output_side_pairs
from unmask.results.run import Run, RunResult
from unmask.scale.settings import FINETUNING_RECIPE


def result(config, seed, f1, backbone="tiny", recipe=PRESETS["tiny"], task="t", **splits):
    scores = {"validation": {"f1": f1}} | {name: {"f1": value} for name, value in splits.items()}
    return RunResult(Run(backbone, task, config, seed, recipe, "f"), scores)


@pytest.fixture
def folder(tmp_path):
    """`folder(results)`: a folder of results with a ledger and a ceiling of 0.6."""

    def write(results):
        ledger = Ledger(tmp_path / "ledger.jsonl")
        for one in results:
            ledger.append_run(one)
        corpora = {"k": {"task": "t", "notes": [], "causal_ceiling": 0.6}}
        (tmp_path / "corpora.json").write_text(json.dumps(corpora))
        return tmp_path

    return write


def test_means_are_over_seeds_and_bounds_bind(folder):
    out = folder(
        [
            *(result("0000", seed, f1) for seed, f1 in ((1, 0.5), (2, 0.6))),
            *(result("1111", seed, f1) for seed, f1 in ((1, 0.7), (2, 0.7))),
            *(result("0011", seed, f1) for seed, f1 in ((1, 0.9), (2, 0.7))),
        ]
    )
    verdict = judge({"claim": "best_gains", "at_least": 0.25}, out)
    assert verdict.holds
    assert verdict.measured == {"chosen": "0011", "its F1": 0.8, "all causal": 0.55}
    assert not judge({"claim": "best_gains", "at_least": 0.26}, out).holds
    assert judge({"claim": "all_open", "above_causal": 0.14}, out).measured == {"t": 0.15}
    assert not judge({"claim": "all_open", "above_causal": 0.16}, out).holds
    assert judge({"claim": "causal_under_ceiling"}, out).holds


def test_a_causal_score_above_its_ceiling_fails_aloud(folder):
    verdict = judge({"claim": "causal_under_ceiling"}, folder([result("0000", 1, 0.61)]))
    assert not verdict.holds
    assert str(verdict) == (
        "FAILS: all causal stays at or under its causal ceiling (0000 0.61, ceiling 0.6)"
    )


def test_the_published_test_and_the_correlation_are_those_of_scipy(folder):
    from scipy.stats import pearsonr, ttest_rel

    f1 = {code: 0.5 + 0.02 * int(code, 2) % 0.13 for code in gray_codes(4)}
    out = folder([result(code, 1, value, test=value**2) for code, value in f1.items()])
    pairs = output_side_pairs(f1)
    shorter, longer = ([f1[pair[side]] for pair in pairs] for side in (0, 1))
    test: Any = ttest_rel(shorter, longer, alternative="less")
    verdict = judge({"claim": "output_side", "level": test.pvalue * 1.1, "helps": True}, out)
    assert verdict.holds
    gain = fmean(longer) - fmean(shorter)
    assert verdict.measured["t"]["gain"] == pytest.approx(gain, abs=1e-4)
    stricter = {"claim": "output_side", "level": test.pvalue * 0.9}
    assert not judge({**stricter, "helps": True}, out).holds
    assert judge({**stricter, "helps": False}, out).holds
    found: Any = pearsonr(list(f1.values()), [value**2 for value in f1.values()])
    correlated = {"claim": "validation_foretells_test"}
    assert judge({**correlated, "at_least": found.statistic - 1e-3}, out).holds
    assert not judge({**correlated, "at_least": found.statistic + 1e-3}, out).holds


@pytest.mark.parametrize(("right", "holds"), [(2829, True), (2828, False)])
def test_counts_of_relations_must_be_equal(tmp_path, right, holds):
    (tmp_path / "rdrr-wnut17.txt").write_text("RDRR 0.522 (L=2586, R=2829); without ...\n")
    claim = {"claim": "rdrr_counts", "task": "wnut17", "left": 2586, "right": right}
    assert judge(claim, tmp_path).holds is holds


def test_gains_of_the_scale_study_are_paired_at_one_checkpoint(folder):
    def tuned(kind, number, config, f1):
        return result(config, 1, f1, f"{kind}-00000000@{number:02d}", FINETUNING_RECIPE)

    out = folder(
        [
            tuned("encoder", 0, "encoder", 0.1),
            tuned("decoder", 0, "00", 0.2),
            tuned("decoder", 0, "11", 0.1),
            tuned("encoder", 4, "encoder", 0.6),
            tuned("decoder", 4, "00", 0.5),
            tuned("decoder", 4, "11", 0.45),
        ]
    )
    verdict = judge({"claim": "open_decoder", "checkpoint": 4, "at_most": 0.0}, out)
    assert verdict.holds
    assert verdict.measured == {"t": -0.05}
    assert not judge({"claim": "open_decoder", "checkpoint": 4, "at_least": 0.0}, out).holds
    assert not judge({"claim": "open_decoder", "checkpoint": 3, "at_most": 0.0}, out).holds
    assert judge({"claim": "untrained_are_one"}, out).measured == {"t": 0.0}
    assert judge({"claim": "untrained_are_one"}, out).holds
    helps = {"claim": "pretraining_helps", "first": 0, "last": 4}
    assert judge({**helps, "at_least": 0.3}, out).holds
    assert not judge({**helps, "at_least": 0.31}, out).holds


def test_an_instruction_tuned_model_is_held_against_the_chosen_labeler(folder):
    out = folder(
        [
            result("0000", 1, 0.5),
            result("0011", 1, 0.8),
            result("instruct it(...)", 1, 0.65, recipe=PRESETS["quick"]),
        ]
    )
    assert judge({"claim": "generation_stays_behind", "at_least": 0.14}, out).holds
    assert not judge({"claim": "generation_stays_behind", "at_least": 0.16}, out).holds


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"claim": "nothing"}, "unknown claim 'nothing'; known are causal_under_ceiling"),
        ({"claim": "best_gains"}, "claim best_gains: .*at_least"),
        ({"claim": "generation_stays_behind", "at_least": 0}, "no score of an instruction-tuned"),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(folder, claim, message):
    with pytest.raises(ValueError, match=message):
        judge(claim, folder([result("0000", 1, 0.5)]))


def test_no_finished_run_is_no_proof(tmp_path):
    with pytest.raises(ValueError, match="holds no finished run of a decoder"):
        judge({"claim": "best_gains", "at_least": 0.0}, tmp_path)
