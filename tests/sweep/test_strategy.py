"""A sweep whose runs several processes train together ends with the ledger of one process."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from unmask.ranks import Ranks
from unmask.results.ledger import Ledger
from unmask.sweep.in_step import in_step
from unmask.sweep.plan import SweepSettings
from unmask.sweep.strategy import Strategy, check_strategy, follows, parse_strategy

FLAGS = ("--configs", "0000,0110,1111", "--max-steps", "6", "--epochs", "20", "--fuse", "2")
SWEEP = ("-m", "unmask.sweep")


def start(data_dir: Path, out: Path, *more: str, by: tuple[str, ...] = SWEEP) -> subprocess.Popen:
    given = ["--task", "small", "--data-dir", str(data_dir), "--out", str(out), *FLAGS]
    return subprocess.Popen(
        [sys.executable, *by, *given, "--seeds", "120", "--checkpoint-seconds", "0", *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run(*arguments, by: tuple[str, ...] = SWEEP) -> str:
    process = start(*arguments, by=by)
    said = process.communicate(timeout=400)[1]
    assert process.returncode == 0, said
    return said


def assert_same(out: Path, expected: Path) -> None:
    """The same runs with the same scores; losses to the rounding of sums in another order."""
    ours, theirs = Ledger(out / "ledger.jsonl"), Ledger(expected / "ledger.jsonl")
    assert ours.warnings() == []
    by_id = {result.run.id: result for result in theirs.results()}
    assert {result.run.id for result in ours.results()} == set(by_id)
    for result in ours.results():
        same = by_id[result.run.id]
        assert result.scores == same.scores
        assert result.curves.keys() == same.curves.keys()
        assert result.curves["train_loss"] == pytest.approx(same.curves["train_loss"], rel=1e-4)
    names = {str(path.relative_to(expected)) for path in expected.rglob("*") if path.is_file()}
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} == names


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "more"),
    [
        ("ddp:2", ("--halving", "--patience", "2", "--max-steps", "8")),
        ("ddp:2", ("--search", "--groups", "2", "--configs", "01", "--prune")),
        ("fsdp:2", ("--quantization", "nf4", "--baselines", "minilm-l6")),
    ],
    ids=["halving and patience", "search", "4 bits and a baseline"],
)
def test_two_processes_end_with_what_one_ends_with(data_dir, tmp_path, strategy, more):
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(data_dir, alone, *more)
    said = run(data_dir, together, *more, "--strategy", strategy)
    assert_same(together, alone)
    results = Ledger(together / "ledger.jsonl").results()
    assert said.count("\ndone: ") == len(results)  # said by one of them
    assert {one.environment["processes of each run"] for one in results} == {"2"}


@pytest.mark.slow
def test_processes_of_torchrun_train_together(data_dir, tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(data_dir, alone)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *SWEEP)
    said = run(data_dir, together, "--strategy", "ddp", by=torchrun)
    assert_same(together, alone)
    assert said.count("\ndone: ") == 3


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_others_and_the_same_command_goes_on(data_dir, tmp_path, rank):
    alone, together = tmp_path / "alone", tmp_path / "together"
    run(data_dir, alone)
    process = start(data_dir, together, "--strategy", "ddp:2")
    while not list(together.rglob("checkpoint.safetensors")):
        assert process.poll() is None
        time.sleep(0.005)
    children = psutil.Process(process.pid).children()
    ranks = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    ranks[rank].kill()
    said = process.communicate(timeout=60)[1].splitlines()[-1]
    assert process.returncode == 1
    assert f"error: process {rank} of those that train together was killed by signal 9" in said
    assert "the same command goes on" in said
    assert not any(child.is_running() for child in ranks)
    run(data_dir, together, "--strategy", "ddp:2")
    assert_same(together, alone)


@pytest.mark.slow
def test_what_a_process_finds_wrong_is_one_line(data_dir, tmp_path):
    run(data_dir, tmp_path / "out", "--test", "none")
    for path in (tmp_path / "out" / "runs").rglob("adapter_model.safetensors"):
        path.write_bytes(b"torn")
    process = start(data_dir, tmp_path / "out", "--strategy", "ddp:2")
    said = process.communicate(timeout=60)[1].splitlines()[-1]
    assert process.returncode == 2
    assert "adapter_model.safetensors" in said


def test_a_strategy_is_a_kind_and_a_number_of_processes():
    assert parse_strategy("ddp:2") == Strategy("ddp", 2)
    assert parse_strategy("fsdp") == Strategy("fsdp", None)
    assert [str(parse_strategy(text)) for text in ("ddp:12", "fsdp")] == ["ddp:12", "fsdp"]


@pytest.mark.parametrize("text", ["", "dp:2", "ddp:", "ddp:1", "ddp:two", "fsdp:-2", "DDP:2"])
def test_other_strategies_are_refused(text):
    with pytest.raises(ValueError, match=f"--strategy takes ddp:N or fsdp:N.*got '{text}'"):
        parse_strategy(text)


TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "RANK": "3"}


@pytest.mark.parametrize(
    ("strategy", "environment", "message"),
    [
        (None, TORCHRUN, "torchrun started 4 processes, which would all do the same"),
        ("ddp:2", TORCHRUN, "--strategy ddp:2 would start 2 processes, but torchrun has started 4"),
        ("fsdp", {}, "--strategy fsdp without a number .* say --strategy fsdp:2"),
    ],
)
def test_a_strategy_that_does_not_go_with_the_start_is_refused(strategy, environment, message):
    with pytest.raises(ValueError, match=message):
        check_strategy(strategy and parse_strategy(strategy), environment)


def test_all_of_torchruns_processes_but_the_first_follow():
    assert follows(TORCHRUN)
    assert not follows({**TORCHRUN, "RANK": "0"})
    assert not follows({"RANK": "3"})


def test_workers_and_a_strategy_are_two_ways():
    with pytest.raises(ValueError, match="--strategy has all processes train each run together"):
        SweepSettings(workers=2, strategy=Strategy("ddp", 2))


def test_one_device_for_all_is_refused():
    with pytest.raises(ValueError, match="--device cuda:1 names one for all"):
        SweepSettings(device="cuda:1", strategy=Strategy("ddp", 2))


def test_a_strategy_does_not_go_with_a_cluster(settings):
    from unmask.sweep.workers import do_sweeps, parse_workers

    one = replace(settings(), strategy=Strategy("ddp", 2))
    with pytest.raises(ValueError, match="--strategy does not go with --workers ray"):
        do_sweeps([(one, None)], parse_workers("ray"), None)  # pyright: ignore[reportArgumentType]


def test_more_processes_than_gpus_are_refused(settings, monkeypatch):
    from unmask.sweep.rank_processes import do_in_ranks

    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    one = settings(strategy=Strategy("fsdp", 4))
    with pytest.raises(ValueError, match="wants 4 GPUs, and this machine has 2"):
        do_in_ranks([(one, None)], None)  # pyright: ignore[reportArgumentType]


def test_the_first_leads_and_the_others_do_what_it_asks_for(monkeypatch):
    said = []

    class Work:
        def double(self, x):
            return 2 * x

    class Heard(Work):
        heard: tuple = ()

        def double(self, x):
            self.heard += (x,)
            return super().double(x)

    # Two ranks, one after the other: what the first one says is kept for the second.
    monkeypatch.setattr(Ranks, "here", lambda: Ranks(0, 2))
    monkeypatch.setattr(Ranks, "agree", lambda ranks, decide: said.append(decide()))
    assert in_step(Work(), lambda work: work.double(3) + work.double(4)) == 14
    monkeypatch.setattr(Ranks, "here", lambda: Ranks(1, 2))
    monkeypatch.setattr(Ranks, "agree", lambda ranks, decide: said.pop(0))
    follower = Heard()
    assert in_step(follower, lambda work: pytest.fail("a follower leads")) == 14
    assert follower.heard == (3, 4)
