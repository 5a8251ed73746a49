import pytest

from unmask.scale.__main__ import main

SMALLEST = (
    *("--preset", "small", "--hidden-size", "16", "--num-heads", "2", "--intermediate-size", "24"),
    *("--vocab-size", "400", "--batch-size", "8", "--epochs", "2"),
    *("--checkpoints-per-epoch", "2", "--device", "cpu"),
)
TUNING = (
    *("--preset", "small", "--task", "lookright", "--limit-train", "32"),
    *("--limit-validation", "10", "--epochs", "2", "--device", "cpu"),
)


@pytest.fixture(scope="module")
def pretrained(text_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    main(["pretrain", "--text", str(text_folder), "--out", str(out), *SMALLEST])
    return out


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as ending:
        main(list(map(str, arguments)))
    assert ending.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    return message.removeprefix("python -m unmask.scale: error: ")


def test_three_commands_lead_from_text_to_the_figure(pretrained, capsys):
    tune = ["finetune", "--out", str(pretrained), *TUNING, "--seeds", "120", "--checkpoints", "0,4"]
    main(tune)
    out, err = capsys.readouterr()
    assert out.split() == [str(pretrained / name) for name in ("figure.png", "table.md")]
    assert "6 runs, 0 of them already there" in err
    lines = (pretrained / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| 0", "| 4"]
    before = (pretrained / "ledger.jsonl").read_bytes()
    main(tune)
    assert "6 runs, 6 of them already there" in capsys.readouterr().err
    assert (pretrained / "ledger.jsonl").read_bytes() == before
    (pretrained / "figure.png").unlink()
    main(["figure", "--out", str(pretrained)])
    assert (pretrained / "figure.png").stat().st_size > 10_000


def test_a_finished_pretraining_is_left_alone(pretrained, text_folder, capsys):
    main(["pretrain", "--text", str(text_folder), "--out", str(pretrained), *SMALLEST])
    assert capsys.readouterr().err.count("pre-trained before") == 2
    assert not list(pretrained.glob("*/checkpoint.safetensors"))


def test_other_settings_want_another_folder(pretrained, text_folder, capsys):
    message = refusal(
        capsys,
        "pretrain",
        "--text",
        text_folder,
        "--out",
        pretrained,
        *SMALLEST,
        *("--decoder-shape", "llama"),
    )
    assert "was made with other settings; choose another --out" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-subtokens", "128"], "is more than the 64 tokens that these models"),
        (["--checkpoints", "9"], "has no checkpoint 9; there are 5"),
        (["--limit-validation", "0"], "--limit-validation must be at least 1"),
        (["--task", "nosuch"], "unknown task 'nosuch'"),
        (["--fuse", "0"], "'0' is not a number of runs, nor auto"),
    ],
)
def test_what_cannot_be_finetuned_is_refused(pretrained, capsys, arguments, message):
    assert message in refusal(capsys, "finetune", "--out", pretrained, *TUNING, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kinds", "encoder,gpt"], "--kinds takes encoder and decoder, got 'encoder,gpt'"),
        (["--num-layers", "0"], "--num-layers must be at least 1"),
        (["--text", "/nowhere"], "no .txt file in /nowhere"),
        (["--tokenizer", "/nowhere"], "/nowhere holds no tokenizer"),
        (["--checkpoints-per-epoch", "99"], "too few for 99 checkpoints"),
    ],
)
def test_what_cannot_be_pretrained_is_refused(text_folder, tmp_path, capsys, arguments, message):
    given = ["--text", text_folder, "--out", tmp_path / "out", *SMALLEST, *arguments]
    assert message in refusal(capsys, "pretrain", *given)


def test_finetuning_before_pretraining_says_what_to_do(tmp_path, capsys):
    message = refusal(capsys, "finetune", "--out", tmp_path, *TUNING)
    assert "run `python -m unmask.scale pretrain` first" in message
