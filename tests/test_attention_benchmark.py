"""The table of packed attention against its peers: one that fails leaves a gap, not no table."""

from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def benchmark_script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return import_module("attention")


@pytest.fixture
def problem(benchmark_script):
    return benchmark_script.Problem([5, 9], [True, False], 4, 2, 16, torch.float32, "cpu")


def failing_from_call(count, script):
    """A right peer whose calls fail from the given one on."""

    def build(problem):
        attend, calls = script.PEERS["padded SDPA"](problem), []

        def call(*tensors):
            calls.append(1)
            if len(calls) >= count:
                raise RuntimeError("gave its memory away\nat line 7")
            return attend(*tensors)

        return call

    return build


@pytest.mark.parametrize("call", [1, 2], ids=["checked", "timed"])
def test_a_peer_that_fails_is_reported_in_a_line_and_the_others_are_timed(
    benchmark_script, problem, monkeypatch, call
):
    monkeypatch.setitem(
        benchmark_script.PEERS, "varlen x2", failing_from_call(call, benchmark_script)
    )
    row = benchmark_script.compare(problem, ["ours", "varlen x2", "padded SDPA"], "float32")
    assert row["refused"] == {"varlen x2": "RuntimeError: gave its memory away"}
    assert set(row["milliseconds"]) == {"ours", "padded SDPA"}


def test_a_failure_of_ours_is_not_a_gap_in_a_table(benchmark_script, problem, monkeypatch):
    monkeypatch.setitem(benchmark_script.PEERS, "ours", failing_from_call(2, benchmark_script))
    with pytest.raises(RuntimeError, match="gave its memory away"):
        benchmark_script.compare(problem, ["ours"], "float32")


def test_no_number_is_given_beside_a_peer_that_disagrees(benchmark_script, problem, monkeypatch):
    right = benchmark_script.PEERS["ours"](problem)
    monkeypatch.setitem(
        benchmark_script.PEERS, "varlen x2", lambda _: lambda *tensors: right(*tensors) * 1.01
    )
    with pytest.raises(RuntimeError, match="varlen x2 differs from the float64 definition by"):
        benchmark_script.compare(problem, ["ours", "varlen x2"], "float32")
