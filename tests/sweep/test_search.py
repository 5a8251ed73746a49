"""A search trains through the sweep: its runs are ordinary runs, and a kill loses nothing."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import optuna
import pytest
from safetensors.torch import load_file

import unmask.sweep.search
from unmask.results.ledger import Ledger
from unmask.sweep.__main__ import main
from unmask.sweep.plan import SearchSettings
from unmask.sweep.space import Space
from unmask.sweep.study import open_storage

QUICK = {"num_groups": 2, "num_trials": 3, "at_a_time": 2}


def search(**changes):
    return SearchSettings(**{**QUICK, **changes})


def trials(out):
    [summary] = optuna.get_all_study_summaries(open_storage(None, out))
    return optuna.load_study(study_name=summary.study_name, storage=open_storage(None, out)).trials


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path):
    file = tmp_path / "scores.csv"
    file.write_text("run,f1\none,0.5")
    with pytest.raises(ValueError, match="is no journal of Optuna's: it begins with b'r"):
        open_storage(str(file), tmp_path)
    assert file.read_text() == "run,f1\none,0.5"


@pytest.mark.parametrize("line", ['{"op_code": 99}', '{"op_code":', '{"op_code": 0}'])
def test_a_damaged_journal_is_one_line(tmp_path, line):
    file = tmp_path / "search.journal"
    file.write_text(f"{line}\n{{}}\n")
    with pytest.raises(ValueError, match="is damaged, Optuna cannot read it"):
        open_storage(None, tmp_path)


def test_trials_are_runs_of_the_ledger_with_the_ends_first(sweep):
    done = sweep(search=search(), max_steps=2)
    assert len(done.by_name) == 3
    assert {"00/seed120", "11/seed120"} < set(done.by_name)
    first, second, third = trials(done.out)
    assert first.params == {"layers_0_3": 0, "layers_4_7": 0}
    assert second.params == {"layers_0_3": 1, "layers_4_7": 1}
    for trial, code in zip((first, second), ("00", "11"), strict=True):
        assert trial.value == done.by_name[f"{code}/seed120"].scores["validation"]["f1"]
    assert third.state.name == "COMPLETE"
    assert {"00/seed120", "11/seed120"} <= done.tested


def test_the_score_of_a_trial_is_the_mean_over_seeds(sweep):
    done = sweep(search=search(num_trials=2), seeds=(120, 121), max_steps=2)
    f1 = [done.by_name[f"00/seed{seed}"].scores["validation"]["f1"] for seed in (120, 121)]
    assert trials(done.out)[0].value == pytest.approx(sum(f1) / 2)


def test_the_same_search_again_does_nothing_and_more_trials_go_on(sweep, monkeypatch):
    first = sweep(search=search(), max_steps=2)
    monkeypatch.setattr(unmask.sweep.search, "train_shares", None)
    again = sweep(search=search(), max_steps=2)
    assert again.ledger.path.read_bytes() == first.ledger.path.read_bytes()
    monkeypatch.undo()
    more = sweep(search=search(num_trials=50), max_steps=2)
    assert len(more.by_name) == 4
    assert "4 of 2^2 configurations tried" in more.said


def test_layers_that_a_sweep_has_opened_are_not_trained_under_another_code(sweep):
    before = sweep(configs=("0000", "0011", "1111"), max_steps=2, test="none").by_name
    done = sweep(search=search(num_trials=4, first=("0011",)), max_steps=2)
    assert [name for name in done.by_name if name not in before] == ["10/seed120"]
    values = [trial.value for trial in trials(done.out)[:3]]
    assert values == [
        before[f"{code}/seed120"].scores["validation"]["f1"] for code in ("0000", "1111", "0011")
    ]


def test_a_search_killed_in_training_goes_on_and_leaves_no_trial_running(
    warm_python, data_dir, tmp_path
):
    out = tmp_path / "out"
    arguments = [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(out)),
        *("--search", "--trials", "3", "--groups", "2", "--at-a-time", "2", "--seeds", "120"),
        *("--max-steps", "4", "--checkpoint-seconds", "0", "--test", "none"),
    ]
    kill_at_second_checkpoint = """
import os, signal
import unmask.training.checkpoint as module
from pathlib import Path
calls = []
replace = Path.replace
def replace_or_die(path, target):
    calls.append(path)
    return os.kill(os.getpid(), signal.SIGKILL) if len(calls) == 4 else replace(path, target)
Path.replace = replace_or_die
"""
    assert warm_python.run(arguments, kill_at_second_checkpoint) == -signal.SIGKILL
    assert [trial.state.name for trial in trials(out)] == ["RUNNING", "RUNNING"]
    assert warm_python.run(arguments) == 0, warm_python.log.read_text()
    assert "trials 0, 1 were cut off and are queued again" in warm_python.log.read_text()
    states = [trial.state.name for trial in trials(out)]
    assert states == ["FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    assert [trial.params for trial in trials(out)[2:4]] == [t.params for t in trials(out)[:2]]
    assert len(Ledger(out / "ledger.jsonl").results()) == 3
    assert not list(out.rglob("*.lock"))


def test_a_search_prunes_at_rungs_and_keeps_what_it_pruned_for_later(sweep, monkeypatch):
    # Every trial that is asked is pruned: what then happens is the same for better reasons.
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: True)
    quick = {"num_trials": 4, "prune": True}
    done = sweep(search=search(**quick), max_steps=8, test="none")
    assert set(done.by_name) == {"00/seed120", "11/seed120"}
    states = [one.state.name for one in trials(done.out)]
    tried = [state for state in states if state != "FAIL"]  # those repeat what was tried
    assert tried == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert "4 of 2^2 configurations tried" in done.said
    rungs = [
        json.loads(line) for line in (done.out / "rungs.jsonl").read_text().split("\n") if line
    ]
    at = {(one["name"].split("/")[2], one["step"]) for one in rungs}
    assert at == {("00", 2), ("11", 2), ("00", 4), ("11", 4), ("01", 2), ("10", 2)}
    for trial in trials(done.out)[:2]:
        assert list(trial.intermediate_values) == [0, 1]
    assert len(list(done.out.rglob("checkpoint.safetensors"))) == 2
    whole = sweep(configs=("01", "10"), max_steps=8, test="none", out=done.out)
    assert len(whole.by_name) == 4


def test_a_search_over_the_recipe_tells_its_gain_against_the_ends_of_the_same_recipe(sweep):
    over = ("learning_rate=1e-3,1e-2", "lora_rank=4,16")
    done = sweep(search=search(num_groups=1, num_trials=6, over=over), max_steps=2)
    results = done.ledger.results()
    tested = [result for result in results if "test" in result.scores]
    assert {result.run.config for result in tested} == {"0", "1"}
    [recipe] = {result.run.recipe for result in tested}
    best = max(trials(done.out), key=lambda trial: trial.value or 0)
    assert recipe.learning_rate == float(best.params["learning_rate"])
    assert recipe.lora_rank == int(best.params["lora_rank"])
    for result in results:
        adapter = load_file(done.out / "runs" / result.run.id / "adapter_model.safetensors")
        ranks = {len(tensor) for name, tensor in adapter.items() if "lora_A" in name}
        assert ranks == {result.run.recipe.lora_rank}


@pytest.mark.slow
def test_the_dashboard_of_optuna_opens_the_journal(sweep):
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    done = sweep(search=search(num_trials=2), max_steps=2, test="none")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).parent / "optuna-dashboard", done.out / "search.journal"]
    dashboard = subprocess.Popen(
        [*command, "--port", str(port), "--server", "wsgiref"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        [study] = answer(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert study["study_name"].startswith("tiny/small/2 bits/seeds 120/")
        url = f"http://127.0.0.1:{port}/api/studies/{study['study_id']}"
        shown = answer(url)["trials"]
    finally:
        dashboard.terminate()
        dashboard.wait()
    assert [trial["state"] for trial in shown] == ["Complete", "Complete"]
    values = [trial.value for trial in trials(done.out)]
    assert [trial["values"] for trial in shown] == [[pytest.approx(value)] for value in values]


def answer(url: str) -> dict:
    """JSON from a server that may still be starting."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_group_that_would_be_half_open_is_refused():
    space = Space(num_layers=8, num_groups=2)
    assert space.code("0011") == "01"
    with pytest.raises(ValueError, match="--configs: layers:3 opens part of a group"):
        space.code("layers:3")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--search", "--trials", "0"], "--trials must be at least 1, got 0"),
        (["--search", "--groups", "9"], "9 groups do not fit 8 layers"),
        (["--search", "--sampler", "grid"], "--sampler must be one of auto, neighbours"),
        (["--search", "--halving"], "--search and --halving are two ways to save"),
        (["--groups", "3"], "are flags of a search: add --search"),
        (["--prune"], "are flags of a search: add --search"),
        (["--search", "--search-over", "rank=3"], "--search-over takes learning_rate, lora_rank"),
        (
            ["--search", "--search-over", "lora_rank=2", "lora_rank=3"],
            "--search-over names a field twice: lora_rank=2 lora_rank=3",
        ),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(flags, message, data_dir, tmp_path, capsys):
    given = ["--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="2"):
        main([*given, *flags])
    assert message in capsys.readouterr().err


def test_a_dry_run_says_how_many_configurations(data_dir, tmp_path, capsys):
    given = ["--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")]
    main([*given, "--search", "--dry-run", "--seeds", "120"])
    assert "search: 40 of 2^8 configurations" in capsys.readouterr().out
