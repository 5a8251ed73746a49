"""The benchmark of the report: it checks before it times, and ten thousand lines take seconds."""

import json
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the command on ledgers of so many lines; returns its measurements by ledger."""

    def run(num_lines):
        monkeypatch.syspath_prepend(BENCHMARKS)
        output = tmp_path / "report.json"
        command = ["report.py", "--lines", str(num_lines), "--output", str(output)]
        monkeypatch.setattr("sys.argv", command)
        import_module("report").main()
        return {one["ledger"]: one for one in json.loads(output.read_text())["measurements"]}

    return run


def test_a_report_without_all_runs_gets_no_time(run, monkeypatch):
    monkeypatch.setattr("unmask.results.table_files.runs_csv", lambda results: "run\n")
    with pytest.raises(RuntimeError, match=r"runs\.csv has 0 of 10 runs; no time is given"):
        run(10)


@pytest.mark.slow
def test_ten_thousand_lines_take_less_than_twenty_seconds(run):
    measured = run(10_000)
    assert [one["lines"] for one in measured.values()] == [10_000, 10_000]
    # Of one processor, which all of it runs on: seconds by the clock are also those of neighbours.
    assert all(one["cpu_seconds"] < 20 for one in measured.values())
