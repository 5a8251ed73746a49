"""The benchmark of whole training steps: equal results first, then speed."""

import json
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def step(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("step")


@pytest.fixture
def run(step, monkeypatch, tmp_path):
    """Run the command on a tiny shape; returns the file it writes."""

    def run(*extra):
        output = tmp_path / "step.json"
        command = ["step.py", "--shape", "tiny", "--dtype", "float32", "--steps", "1"]
        command += ["--batches", "1", "--runs", "1", "2", "--output", str(output), *extra]
        monkeypatch.setattr("sys.argv", command)
        step.main()
        return output

    return run


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_the_stock_step_and_ours_agree_and_are_timed(run, capsys, quantization):
    report = json.loads(run("--quantization", quantization).read_text())
    ways = {
        "none": ["transformers + PEFT, no quantisation"]
        + [f"ours, no quantisation, {runs} fused" for runs in (1, 2)],
        "nf4": [
            "transformers + PEFT, NF4 written out every pass",
            "ours, NF4 written out every pass",
            "ours, NF4 resident, 1 fused",
            "ours, NF4 resident, 2 fused",
        ],
    }
    assert [row["name"] for row in report["rows"]] == ways[quantization]
    assert all(row["median_ms"] > 0 for row in report["rows"])
    assert report["machine"]["device"]
    assert "times stock" in capsys.readouterr().out


def test_in_bfloat16_ways_may_be_twice_as_far_from_float32_as_the_stock_one(run):
    report = json.loads(run("--dtype", "bfloat16", "--quantization", "nf4").read_text())
    assert len(report["rows"]) == 4


def test_no_speed_is_given_when_a_way_computes_something_else(run, step, monkeypatch, capsys):
    head = step.head_weight
    calls = iter(range(100))
    monkeypatch.setattr(step, "head_weight", lambda *shape: head(*shape) * (1 + next(calls)))
    with pytest.raises(SystemExit) as exit_info:
        run()
    assert exit_info.value.code == 1
    printed = capsys.readouterr()
    assert "a speed without equal results means nothing" in printed.err
    assert "ours" not in printed.out
