"""The session that measures a GPU: what it checks, and that no stage can hold up the others."""

import json
import sys
from argparse import Namespace
from importlib import import_module
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def session(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = import_module("gpu_session")
    monkeypatch.setattr(module, "HIDDEN", 64)
    monkeypatch.setattr(module, "INTERMEDIATE", 80)
    monkeypatch.setattr(module, "RANK", 4)
    monkeypatch.setattr(module, "HEADS", (4, 2, 16))
    return module


@pytest.fixture
def arguments(session, tmp_path):
    flags = ["--check-only", "--device", "cpu", "--dtypes", "float32", "--tokens", "160"]
    return session._parser().parse_args([*flags, "--output-dir", str(tmp_path)])


def test_every_kernel_is_checked_and_its_error_written(session, arguments, tmp_path):
    session.check(arguments)
    report = json.loads((tmp_path / "check.json").read_text())
    assert set(report["errors"]["float32"]) == {"attention", "lora", "rms_norm", "swiglu", "nf4"}
    assert report["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("name", "operation"),
    [("swiglu", "swiglu"), ("lora", "grouped_lora"), ("nf4", "dequantize_nf4")],
)
def test_a_kernel_that_is_wrong_stops_the_session(session, arguments, monkeypatch, name, operation):
    right = getattr(session.kernels, operation)
    monkeypatch.setattr(session.kernels, operation, lambda *args: right(*args) * 1.01)
    with pytest.raises(RuntimeError, match=rf"{name} in float32 is off by .*, cap 5e-06"):
        session.check(arguments)


def test_nothing_is_timed_after_a_wrong_kernel(session, arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(session, "_require", lambda device: None)
    failing = [session.Stage(name, [sys.executable, "-c", "raise SystemExit(1)"], 1.0)
               for name in ("check", "attention")]  # fmt: skip
    monkeypatch.setattr(session, "stages", lambda arguments: failing)
    monkeypatch.setattr(session, "compilations", lambda folder: [])
    with pytest.raises(RuntimeError, match=r"the check of the kernels failed \(1\), so nothing is"):
        session.run(arguments)
    report = json.loads((tmp_path / "session.json").read_text())
    assert [stage["name"] for stage in report["stages"]] == ["check"]


@pytest.mark.parametrize(
    ("code", "seconds", "ended"),
    [
        ("print('table')", 60, "done"),
        ("raise SystemExit(3)", 60, "failed (3)"),
        ("import time; print('table', flush=True); time.sleep(60)", 2, "ran out of time"),
        ("print('table')", 0.5, "had no time"),
    ],
)
def test_how_a_stage_ends_is_told(session, tmp_path, code, seconds, ended):
    stage = session.Stage("attention", [sys.executable, "-c", code], 1.0)
    assert session.run_stage(stage, seconds, tmp_path)["ended"] == ended
    if ended in ("done", "ran out of time"):
        assert (tmp_path / "attention.log").read_text() == "table\n"


def test_the_benchmarks_take_the_flags_that_they_are_given(session, arguments):
    for stage in session.stages(arguments):
        script = next((Path(part).stem for part in stage.command if part.endswith(".py")), None)
        if script in ("attention", "step"):
            flags = stage.command[2:]
            parsed = import_module(script)._parser().parse_args(flags)
            assert isinstance(parsed, Namespace)
            assert parsed.output.parent == arguments.output_dir


def test_without_a_cuda_device_it_says_so(session, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_session.py"])
    with pytest.raises(SystemExit, match="1"):
        session.main()
    assert "no CUDA device: this session measures one" in capsys.readouterr().err
