"""A ledger survives kills, full disks and many writers, and says what it found."""

import errno
import json
import logging
import math
import os
import random
import subprocess
import sys
import time

import pytest

from unmask.results.ledger import Ledger

WRITER = """
import sys
from dataclasses import replace
from unmask.recipe import PAPER
from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult

path, first_seed, num_runs, padding = sys.argv[1], *map(int, sys.argv[2:])
ledger = Ledger(path)
run = Run("tiny", "made_up", "0110", 0, PAPER, "0" * 16)
for seed in range(first_seed, first_seed + num_runs):
    padded = {"padding": "x" * padding}
    ledger.append_run(RunResult(replace(run, seed=seed), scores={}, environment=padded))
    print(seed, flush=True)
"""


def start_writer(path, first_seed, num_runs, padding=10, prelude=""):
    arguments = [str(path), str(first_seed), str(num_runs), str(padding)]
    return subprocess.Popen(
        [sys.executable, "-c", prelude + WRITER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "deep" / "ledger.jsonl")


def test_a_run_comes_back_as_it_was_written(ledger, make_result):
    first, second = make_result(seed=120), make_result(seed=121, status="diverged")
    ledger.append_run(first)
    ledger.append_run(second)
    assert ledger.read().results == [first, second]
    assert ledger.warnings() == []


def test_a_file_that_is_not_there_holds_no_results(ledger, make_result):
    run = make_result().run
    assert ledger.results() == []
    assert ledger.missing([run]) == [run]
    assert not ledger.path.exists()


def test_missing_keeps_the_order_and_counts_diverged_runs_as_done(ledger, make_result):
    runs = [make_result(seed=seed).run for seed in (3, 1, 2)]
    ledger.append_run(make_result(seed=1, status="diverged"))
    assert ledger.missing(runs) == [runs[0], runs[2]]
    assert ledger.finished_ids() == {runs[1].id}


def test_test_scores_are_merged_into_their_run(ledger, make_result):
    result = make_result()
    ledger.append_run(result)
    ledger.append_test(result.run.id, {"f1": 0.5})
    assert ledger.results()[0].scores == {**result.scores, "test": {"f1": 0.5}}


def test_the_test_split_is_scored_once(ledger, make_result):
    first, second = make_result(seed=1), make_result(seed=2, test=0.5)
    for result in (first, second):
        ledger.append_run(result)
    ledger.append_test(first.run.id, {"f1": 0.5})
    for result in (first, second):
        with pytest.raises(ValueError, match="was scored on test before"):
            ledger.append_test(result.run.id, {"f1": 0.6})
    assert len(ledger.path.read_text().splitlines()) == 3


def test_test_scores_without_their_run_are_refused(ledger):
    with pytest.raises(ValueError, match="has no run abc; append the run before"):
        ledger.append_test("abc", {"f1": 0.5})


def test_numbers_json_does_not_have_become_null_and_come_back_as_nan_in_curves(ledger, make_result):
    ledger.append_run(make_result(curves={"train_loss": [2.0, math.inf, math.nan]}))
    assert json.loads(ledger.path.read_text(), parse_constant=pytest.fail)
    loss = ledger.results()[0].curves["train_loss"]
    assert loss[0] == 2.0
    assert [math.isnan(value) for value in loss] == [False, True, True]


def test_values_that_are_not_plain_are_refused_before_anything_is_written(ledger, make_result):
    with pytest.raises(TypeError, match="plain numbers and text only"):
        ledger.append_run(make_result(timings={"train_seconds": object()}))
    assert ledger.path.read_bytes() == b""


def test_the_first_of_two_records_of_a_run_counts_and_the_second_is_reported(ledger, make_result):
    ledger.append_run(make_result(validation=0.9))
    ledger.append_run(make_result(validation=0.1))
    contents = ledger.read()
    assert [one.scores["validation"]["f1"] for one in contents.results] == [0.9]
    assert "jsonl:2: tiny/made_up/0110/seed120 was written before" in contents.warnings[0]


def test_test_records_that_were_pasted_together_are_reported(ledger, make_result):
    result = make_result(test=0.5)
    ledger.append_run(result)
    with open(ledger.path, "a") as file:
        for run_id in (result.run.id, "unknown"):
            file.write(json.dumps({"kind": "test", "run_id": run_id, "scores": {}}) + "\n")
    contents = ledger.read()
    assert contents.results == [result]
    assert "was scored on test before; the first counts" in contents.warnings[0]
    assert "run unknown, which is not here" in contents.warnings[1]


def test_a_record_torn_at_any_byte_is_set_aside_and_the_next_starts_a_fresh_line(
    tmp_path, make_result
):
    whole = Ledger(tmp_path / "whole.jsonl")
    whole.append_run(make_result(seed=1))
    first = whole.path.read_bytes()
    whole.append_run(make_result(seed=2))
    second = whole.path.read_bytes()[len(first) :]
    for cut in {1, 2, 17, *range(3, len(second) - 1, 97), len(second) - 2}:
        torn = Ledger(tmp_path / f"torn{cut}.jsonl")
        torn.path.write_bytes(first + second[:cut])
        assert [one.run.seed for one in torn.results()] == [1]
        assert f"torn{cut}.jsonl:2: the last record is torn ({cut} bytes" in torn.warnings()[0]
        torn.append_run(make_result(seed=3))
        assert [one.run.seed for one in torn.results()] == [1, 3]
        assert torn.torn_path.read_bytes() == second[:cut] + b"\n"
        assert "a torn record was set aside" in torn.warnings()[0]


def test_a_whole_record_without_its_newline_counts(ledger, make_result):
    ledger.append_run(make_result(seed=1))
    ledger.path.write_bytes(ledger.path.read_bytes().rstrip(b"\n"))
    assert [one.run.seed for one in ledger.results()] == [1]
    ledger.append_run(make_result(seed=2))
    assert [one.run.seed for one in ledger.results()] == [1, 2]
    assert ledger.warnings() == []


def test_two_records_of_a_run_that_disagree_are_said_to(ledger, make_result):
    ledger.append_run(make_result(seed=1, validation=0.5))
    ledger.append_run(make_result(seed=1, validation=0.5))
    ledger.append_run(make_result(seed=1, validation=0.6))
    same, other = ledger.warnings()
    assert "seed1 was written before; the first counts" in same
    assert "seed1 was written before with another validation F1; the first counts" in other
    assert ledger.results()[0].scores["validation"]["f1"] == 0.5


def test_warnings_are_logged_once(ledger, make_result, caplog):
    ledger.append_run(make_result())
    ledger.append_run(make_result())
    with caplog.at_level(logging.WARNING):
        ledger.results()
        ledger.results()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"kind": "run", "resu', r"ledger\.jsonl:1 is corrupt \(.*only tear the last line"),
        (b"\x00\x00", r"ledger\.jsonl:1 is corrupt"),
        (b"", r"ledger\.jsonl:1 is corrupt"),
        (b"[1]", r"ledger\.jsonl:1: expected a JSON object"),
        (b'{"kind": "note"}', r"ledger\.jsonl:1: unknown kind of record 'note'"),
        (b'{"kind": "run"}', r"ledger\.jsonl:1: not a record of a run: it lacks 'result'"),
        (b'{"kind": "run", "result": 5}', r"ledger\.jsonl:1: not a record of a run: 'int'"),
        (b'{"kind": "test"}', r"ledger\.jsonl:1: not a record of test scores: expected run_id"),
        (b'{"kind": "test", "run_id": [1], "scores": {}}', "expected run_id, a text"),
        (b'{"kind": "test", "run_id": "a", "scores": 3}', "scores with f1"),
    ],
)
def test_a_corrupt_line_before_the_last_is_an_error_that_names_it(
    ledger, make_result, line, message
):
    ledger.append_run(make_result())
    ledger.path.write_bytes(line + b"\n" + ledger.path.read_bytes())
    with pytest.raises(ValueError, match=message):
        ledger.results()


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("run", {"run": {"seed": "120"}}),
        ("run", {"run": {"config": 5}}),
        ("status", {"status": "exploded"}),
        ("scores", {"scores": {"validation": None}}),
        ("scores", {"scores": {"validation": {"f1": "high"}}}),
        ("curves", {"curves": {"train_loss": 0.5}}),
        ("timings", {"timings": {"train_seconds": "long"}}),
        ("environment", {"environment": {"python": 3}}),
    ],
)
def test_a_record_of_another_shape_is_an_error_that_names_line_and_field(
    ledger, make_result, field, change
):
    ledger.append_run(make_result(seed=1))
    ledger.append_run(make_result(seed=2))
    first, second = ledger.path.read_text().splitlines()
    record = json.loads(second)
    for name, value in change.items():
        part = record["result"]
        part[name] = {**part[name], **value} if name == "run" else value
    ledger.path.write_text(f"{first}\n{json.dumps(record)}\n")
    with pytest.raises(
        ValueError, match=rf"ledger\.jsonl:2: .*its {field} cannot be read; .*repair"
    ):
        ledger.results()


def test_a_recipe_field_that_is_not_known_is_an_error_that_names_the_line(ledger, make_result):
    ledger.append_run(make_result())
    ledger.path.write_text(ledger.path.read_text().replace("head_dropout", "heed_dropout"))
    with pytest.raises(ValueError, match=r"ledger\.jsonl:1: .*unknown fields \['heed_dropout'\]"):
        ledger.results()


@pytest.mark.parametrize("bytes_that_fit", [0, 25])
def test_a_full_disk_is_a_clear_error_and_leaves_the_ledger_as_it_was(
    ledger, make_result, monkeypatch, bytes_that_fit
):
    ledger.append_run(make_result(seed=1))
    before = ledger.path.read_bytes()
    write = os.write

    def write_until_full(file, data):
        if not bytes_that_fit:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:bytes_that_fit])

    monkeypatch.setattr(os, "write", write_until_full)
    with pytest.raises(OSError, match="the ledger is unchanged: make room and append again"):
        ledger.append_run(make_result(seed=2))
    monkeypatch.undo()
    assert ledger.path.read_bytes() == before


def test_a_sync_that_fails_takes_the_record_back(ledger, make_result, monkeypatch):
    ledger.append_run(make_result(seed=1))
    before = ledger.path.read_bytes()

    def fail(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        ledger.append_run(make_result(seed=2))
    assert caught.value.errno == errno.ENOSPC
    assert ledger.path.read_bytes() == before


def test_a_real_limit_on_the_size_of_the_file_leaves_whole_records_only(ledger):
    limit = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    )
    process = start_writer(ledger.path, 0, 100, padding=1000, prelude=limit)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the ledger is unchanged: make room and append again" in errors
    assert [one.run.seed for one in ledger.results()] == [int(seed) for seed in output.split()]
    assert ledger.warnings() == []


def test_a_writer_killed_at_random_moments_never_loses_an_acknowledged_record(ledger):
    generator = random.Random(0)
    acknowledged, first_seed = [], 0
    for _ in range(6):
        # Records of four megabytes, so that some kills fall inside a write.
        process = start_writer(ledger.path, first_seed, 1000, padding=4_000_000)
        assert process.stdout is not None
        acknowledged.append(int(process.stdout.readline()))
        time.sleep(generator.uniform(0, 0.03))
        process.kill()
        output, errors = process.communicate(timeout=60)
        assert errors == ""
        acknowledged += [int(seed) for seed in output.split()]
        seeds = [one.run.seed for one in ledger.results()]
        assert set(acknowledged) <= set(seeds)
        assert len(seeds) == len(set(seeds))
        first_seed = max(seeds) + 1
    assert len(acknowledged) >= 6


def test_many_processes_can_append_at_once(ledger):
    writers = [start_writer(ledger.path, 1000 * n, 20, padding=20_000) for n in range(3)]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert errors == ""
    seeds = [one.run.seed for one in ledger.results()]
    assert sorted(seeds) == sorted(1000 * n + i for n in range(3) for i in range(20))
    assert ledger.warnings() == []


def test_test_scores_survive_a_round_trip_of_the_whole_result(ledger, make_result):
    result = make_result()
    ledger.append_run(result)
    scores = make_result(test=0.25).scores["test"]
    ledger.append_test(result.run.id, scores)
    assert ledger.results()[0].scores["test"] == scores
