"""The benchmark of fused runs: agreement first, then time and memory by the number of runs."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from unmask.training.estimate import WORKING_BYTES

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("sweep")


@pytest.fixture
def run(benchmark, monkeypatch, tmp_path):
    """Run the command with few small batches; returns the file it writes."""

    def run(*extra):
        output = tmp_path / "sweep.json"
        command = ["sweep.py", "--widths", "1,3", "--steps", "1", "--rounds", "2"]
        command += ["--batches", "2"]
        command += ["--batch-size", "3", "--threads", "1", "--output", str(output), *extra]
        monkeypatch.setattr("sys.argv", command)
        benchmark.main()
        return output

    return run


def test_every_way_to_train_has_a_row_and_the_plot_is_drawn(run, capsys):
    output = run()
    report = json.loads(output.read_text())
    assert report["gap"] < 1e-4
    assert [row["runs"] for row in report["rows"]] == [1, 1, 1, 3]
    for row in report["rows"]:
        assert len(row["seconds_per_run_and_step"]) == len(row["tokens_per_second"]) == 2
        assert min(row["tokens_per_second"]) > 0
    one, three = (row["estimated_bytes"] - WORKING_BYTES for row in report["rows"][2:])
    assert three == 3 * one > 0
    printed = capsys.readouterr().out
    assert all(row["name"] in printed for row in report["rows"])
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_no_speed_is_given_where_the_two_disagree(run, benchmark, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmark, "largest_gap", lambda pair, batches: 0.5)
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "ours and the stock model differ by 5.0e-01 of the largest value" in said.err
    assert said.out == ""
    assert not (tmp_path / "sweep.json").exists()


def test_widths_that_are_no_numbers_are_refused(run, capsys):
    with pytest.raises(SystemExit):
        run("--widths", "1,x")
    assert "expected numbers of runs such as 1,2,4, got '1,x'" in capsys.readouterr().err
