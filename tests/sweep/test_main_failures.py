"""How a sweep that goes wrong ends: one line that says what is wrong, and an exit code."""

import errno
import os
import time
from pathlib import Path

import pytest
from safetensors import SafetensorError

import unmask.attention
import unmask.results.ledger
import unmask.saving
import unmask.training.checkpoint
import unmask.training.fit
from unmask.results.ledger import Ledger
from unmask.sweep.__main__ import main

SAID_ON_THE_WAY = (
    "note: ",
    "recipe: ",
    "backbone: ",
    "runs per ",
    "done: ",
    "chosen on ",
    "a labeler ",
)
GOOD = "EU B-ORG\nrejects O\n\nAnna B-PER\n"


@pytest.fixture
def fails(capsys):
    """`fails(argv)`: the exit code and the one line that a failing command ends with."""

    def run(argv: list[str]) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        said = capsys.readouterr()
        assert said.out == ""
        *before, last = said.err.splitlines()
        odd = [line for line in before if not line.startswith(SAID_ON_THE_WAY)]
        assert [line for line in odd if "already in" not in line] == []
        assert last.startswith("python -m unmask.sweep: error: ")
        return ended.value.code, last.removeprefix("python -m unmask.sweep: error: ")

    return run


def folder_of(tmp_path: Path, **files: str | bytes) -> list[str]:
    """Flags for a folder of GOOD files, some of them replaced."""
    for name in ("train", "dev", "test"):
        content = files.get(name, GOOD)
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"{name}.txt").write_bytes(data)
    return ["--task", "mine", "--data-dir", str(tmp_path)]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "mistral7b"], "unknown model 'mistral7b': give one of mistral-7b, "),
        (["--task", "conl03_ner"], "unknown task 'conl03_ner'; did you mean conll03_ner or "),
        (["--configs", "0120"], "unmasking code '0120' is not a string of 0s and 1s; "),
        (["--configs", "0" * 9], "9 groups do not fit 8 layers; use 1 to 8 bits"),
        (["--configs", "layers:8"], "layer 8 does not exist; this model has layers 0 to 7"),
        (["--configs", "0011;layers:4-7"], "--configs: 0011 and layers:4-7 open the same layers"),
        (["--configs", ""], "--configs is empty: name at least one"),
        (["--configs", "0000,0000"], "--configs names 0000 more than once"),
        (["--seeds", "a,b"], "argument --seeds: 'a,b' is not a list of whole numbers; see "),
        (["--seeds", "-1"], "--seeds must not be negative, got -1"),
        (["--preset", "fast"], "argument --preset: invalid choice: 'fast' (choose from "),
        (["--test", "dev"], "argument --test: invalid choice: 'dev' (choose from "),
        (["--fuse", "many"], "--fuse takes a number of runs or auto, got 'many'"),
        (["--fuse", "0"], "--fuse must be at least 1 or auto, got 0"),
        (["--max-steps", "0"], "recipe: max_steps must be a whole number from 1, got 0"),
        (["--learning-rate", "-1"], "recipe: learning_rate must be a finite number above 0"),
        (["--limit-train", "0"], "--limit-train must be at least 1, got 0"),
        (["--limit-validation", "0"], "--limit-validation must be at least 1, got 0"),
        (["--device", "cuda:99"], "there is no device cuda:99: PyTorch sees "),
        (["--device", "quantum"], "unknown device 'quantum'; give cpu, cuda, cuda:1 or mps"),
        (["--checkpoint-seconds", "-3"], "--checkpoint-seconds must be 0 or more, got -3.0"),
        (["--baselines", "robrta-base"], "unknown model 'robrta-base': give one of "),
        (["--validation-from", "nix"], "cannot read 'nix' as a share of a split; "),
        (["--data-dir", "mine"], "task lookright is generated and reads no files: give those in"),
        (
            ["--task", "mine", "--data-dir", "not/there"],
            "the data folder not/there does not exist; ",
        ),
        (["--nix"], "unrecognized arguments: --nix; see python -m unmask.sweep --help"),
    ],
)
def test_wrong_flag_is_one_line_and_exit_code_2(fails, tmp_path, argv, message):
    code, line = fails(["--out", str(tmp_path / "out"), *argv])
    assert line.startswith(message)
    assert code == 2
    assert not (tmp_path / "out" / "ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"train": ""}, "train.txt: no sentences found when read as "),
        ({"dev": "\n\n"}, "dev.txt: no sentences found when read as "),
        ({"train": "EU\nrejects\n"}, "train.txt:1: one column only; expected a word and its tag"),
        ({"train": GOOD + "Paris"}, "train.txt:5: 1 columns separated by spaces, expected 2"),
        ({"train": GOOD + "Paris B-"}, "train.txt:5: tag 'B-' is neither 'O' nor a prefix and "),
        ({"test": GOOD + "Paris X-LOC\n"}, "test.txt:5: tag 'X-LOC' is neither 'O' nor a prefix"),
        ({"train": "Pérez B-PER\n".encode("latin-1")}, "train.txt:1: byte 0xe9 is not UTF-8; "),
        ({"dev": "EU O\n"}, "the validation split of mine has no labelled span, so every "),
    ],
)
def test_broken_data_is_named_by_file_and_line(fails, tmp_path, files, message):
    code, line = fails([*folder_of(tmp_path, **files), "--out", str(tmp_path / "out")])
    assert message in line
    assert code == 2


def test_label_that_the_task_does_not_have_is_refused(fails, tmp_path):
    folder_of(tmp_path, train="EU B-COMPANY\n")
    code, line = fails(["--task", "conll03_ner", "--data-dir", str(tmp_path)])
    assert "label 'COMPANY' is not one of task conll03_ner (LOC, MISC, ORG, PER)" in line
    assert code == 2


def test_tag_column_that_is_not_there_is_refused(fails, tmp_path):
    code, line = fails([*folder_of(tmp_path), "--column", "7"])
    assert "train.txt:1: " in line
    assert "7" in line
    assert code == 2


def test_stray_tags_are_noted_and_repaired_on_request(tmp_path, capsys):
    flags = folder_of(tmp_path, dev="EU I-ORG\nrejects O\n\nAnna B-PER\n")
    flags += ["--out", str(tmp_path / "out"), "--configs", "0000", "--seeds", "1", "--dry-run"]
    main(flags)
    strict = capsys.readouterr()
    assert "note: dev.txt: 1 stray tags, the first at dev.txt:1; strict reading" in strict.err
    main([*flags, "--repair"])
    repaired = capsys.readouterr()
    assert "dev.txt:1, were repaired into entities, as asked" in repaired.err
    # Other tags are other data, so other runs.
    assert strict.out.split()[0] != repaired.out.split()[0]


@pytest.mark.parametrize("model", ["mistral-7b", "some-owner/some-model"])
def test_no_hub_in_reach_is_said_at_once(fails, monkeypatch, model):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    started = time.monotonic()
    code, line = fails(["--model", model])
    assert time.monotonic() - started < 5
    assert line.startswith(f"the weights of {model} (")
    assert "HF_HUB_OFFLINE is set. Give a local folder as the model, or fetch them" in line
    assert code == 2


def test_folder_without_weights_is_refused(fails, tmp_path):
    code, line = fails(["--model", str(tmp_path)])
    assert line == (
        f"{tmp_path} holds no model: expected a config.json with its weights, or a .gguf file"
    )
    assert code == 2


def test_mask_that_disagrees_is_exit_code_1_and_nothing_in_the_ledger(
    fails, small, monkeypatch, tmp_path
):
    monkeypatch.setattr(unmask.attention, "_layer", lambda module: 0)
    code, line = fails(small)
    assert line.startswith("the mask is not what the configuration says: layer 2 is causal but ")
    assert code == 1
    assert Ledger(tmp_path / "out" / "ledger.jsonl").results() == []


def test_out_of_memory_says_which_flags_help(fails, small, monkeypatch):
    def no_memory(*args, **kwargs):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
        )

    monkeypatch.setattr("unmask.sweep.stack.fit", no_memory)
    code, line = fails([*small, "--fuse", "1"])
    assert line.startswith("out of memory: make the batch smaller (--batch-size, ")
    assert code == 1


def full_ledger(monkeypatch):
    class FullOs:
        def __getattr__(self, name):
            return getattr(os, name)

        def write(self, file, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unmask.results.ledger, "os", FullOs())


def full_checkpoint(monkeypatch):
    def write(path, *args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "checkpoint.partial")

    monkeypatch.setattr(unmask.training.fit, "write_checkpoint", write)


def full_adapter(monkeypatch):
    def save(*args, **kwargs):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(unmask.saving, "save_file", save)


def full_pages(monkeypatch):
    def write(ledger, folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "report.html"))

    monkeypatch.setattr("unmask.sweep.outputs.write_outputs", write)


@pytest.mark.parametrize("fill", [full_ledger, full_checkpoint, full_adapter, full_pages])
def test_full_disk_is_one_line_and_costs_nothing_that_was_done(
    small, monkeypatch, capsys, tmp_path, without_pages, fill
):
    main(small)
    before = (tmp_path / "out" / "ledger.jsonl").read_bytes()
    more = [*small, "--configs", "0000,0110,1111"]
    with monkeypatch.context() as full:
        fill(full)
        with pytest.raises(SystemExit) as ended:
            main(more)
    assert ended.value.code == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("python -m unmask.sweep: error: the disk is full or the file too large")
    assert (tmp_path / "out" / "ledger.jsonl").read_bytes().startswith(before)
    main(more)
    ledger = Ledger(tmp_path / "out" / "ledger.jsonl")
    assert len(ledger.results()) == 3
    assert ledger.warnings() == []
    assert not list((tmp_path / "out").rglob("*checkpoint*"))


def test_limit_on_file_size_is_one_line_and_the_sweep_goes_on_without_it(
    warm_python, small, tmp_path
):
    limit = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
"""
    assert warm_python.run(small, limit) == 1
    last = warm_python.log.read_text().splitlines()[-1]
    assert last.startswith("python -m unmask.sweep: error: the disk is full or the file too large")
    assert Ledger(tmp_path / "out" / "ledger.jsonl").results() == []
    assert warm_python.run(small) == 0
    assert len(Ledger(tmp_path / "out" / "ledger.jsonl").results()) == 2


def test_adapter_that_was_removed_before_its_test_scores_is_named(
    fails, small, tmp_path, capsys, without_pages
):
    main([*small, "--test", "none"])
    capsys.readouterr()
    [first, *_] = Ledger(tmp_path / "out" / "ledger.jsonl").results()
    adapter = tmp_path / "out" / "runs" / first.run.id / "adapter_model.safetensors"
    adapter.unlink()
    code, line = fails([*small, "--test", "all"])
    assert f"{adapter.parent} has no adapter_model.safetensors" in line
    assert code == 2


def test_damaged_ledger_is_refused_not_overwritten(fails, small, tmp_path):
    (tmp_path / "out").mkdir()
    ledger = tmp_path / "out" / "ledger.jsonl"
    ledger.write_text("this is\nno ledger\n")
    code, line = fails(small)
    assert f"{ledger}:1 is corrupt" in line
    assert code == 2
    assert ledger.read_text() == "this is\nno ledger\n"


def test_debug_shows_where(small):
    with pytest.raises(ValueError, match="unknown model 'nix'"):
        main([*small, "--model", "nix", "--debug"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lora-ranks", "8,8"], "--lora-ranks names a value more than once: 8, 8"),
        (
            ["--learning-rates", "1e-3,2e-3", "--learning-rate", "1e-3"],
            "--learning-rates and learning_rate are given both; leave one out",
        ),
        (
            ["--lora-ranks", "4,8", "--recipe.lora-rank=4"],
            "--lora-ranks and lora_rank are given both; leave one out",
        ),
        (
            ["--lora-ranks", "4,8", "--search"],
            "--lora-ranks has no place in a search; say --search-over lora_rank=...",
        ),
    ],
)
def test_rates_and_ranks_that_clash_are_refused(fails, flags, message):
    assert fails(flags) == (2, message)


def test_what_is_no_list_of_rates_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--learning-rates", "1e-3,fast"])
    assert "'1e-3,fast' is not a list of numbers" in capsys.readouterr().err
