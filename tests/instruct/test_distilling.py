from __future__ import annotations

import json

import pytest

from unmask.cli import main
from unmask.data import lookright
from unmask.instruct.hum_rules import read_pairs
from unmask.instruct.workspace import read_queries
from unmask.results.run import Run

RECIPE = [
    *("--preset", "quick", "--dtype", "float32", "--max-subtokens", "512"),
    *("--max-steps", "2", "--batch-size", "2", "--accumulation", "1"),
]
ENTITIES = '[("Bush", "person"), ("Iraq", "country")]'
TOPICS = '{"topics": ["war", "politics"], "sentiment": "negative", "intent": "report"}'
TYPES = '{"Bush": ["person", "president"], "Iraq": ["country"]}'
RULE = "Schema Description: d\nOriginal Rule: all\nNew Rule: one\nNew Label: []"


def answer(prompt: str) -> str:
    """What the teacher says, by what the prompt asks for."""
    for mark, said_then in (("Find every entity", TYPES), ("topics", TOPICS), ("New Rule", RULE)):
        if mark in prompt:
            return said_then
    return ENTITIES


@pytest.fixture
def teacher(play_teacher):
    """Flags that name a running teacher."""
    with play_teacher(answer) as running:
        yield ["--endpoint", running.url, "--teacher", "t"]


@pytest.fixture
def passages(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("Bush attacked Iraq\nIraq was attacked\n")
    return ["--passages", str(path)]


@pytest.fixture
def corpus(tmp_path):
    """A folder with a training file only."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = []
    for sentence in lookright.generate(1, 150, 3, 3).train:
        pairs = zip(sentence.words, sentence.tags, strict=True)
        lines += [*(f"{word}\t{tag}" for word, tag in pairs), ""]
    (folder / "train.conll").write_text("\n".join(lines) + "\n")
    return ["-t", "mine", "-d", str(folder), "--validation-from", "train:2"]


def instruct(step: str, system: str, *more) -> None:
    main(["instruct", step, "--system", system, *map(str, more)])


def test_entities_of_a_teacher_become_conversations(teacher, passages, tmp_path):
    instruct("distil", "uniner", *teacher, *passages, "-o", tmp_path)
    data = ("-d", tmp_path / "answers-type.jsonl", "-t", "pile", "-o", tmp_path / "built")
    instruct("build", "uniner", *data)
    assert {q.text for q in read_queries(tmp_path / "built", "train")} == {
        "Bush attacked Iraq",
        "Iraq was attacked",
    }


def test_open_labels_are_a_first_stage_and_tuning_goes_on_from_it(
    teacher, passages, corpus, small_model, tmp_path, capsys
):
    instruct("distil", "seqgpt", *teacher, *passages, "-o", tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    common = ("-m", small_model, "--device", "cpu")
    instruct("build", "seqgpt", "-d", tmp_path / "labelled.jsonl", "-o", first)
    assert {query.task for query in read_queries(first, "train")} == {
        "CLS",
        "SA",
        "ID",
        "NER",
        "ET",
    }
    instruct("train", "seqgpt", *common, "-o", first, *RECIPE)
    (adapter,) = (first / "runs").iterdir()
    instruct("build", "seqgpt", *corpus, "-o", second)
    more = (*common, "-o", second, *RECIPE, "--start-from", adapter)
    instruct("train", "seqgpt", *more)
    (stage,) = (second / "runs").iterdir()
    run = Run.from_dict(json.loads((stage / "run.json").read_text()))
    assert run.config == f"instruct seqgpt, after {adapter.name}"
    # The answers need not be told where the tuning began.
    instruct("generate", "seqgpt", *common, "-o", second, "--max-new-tokens", "2")
    assert (stage / "validation.system.jsonl").exists()
    with pytest.raises(SystemExit):
        instruct("train", "seqgpt", *more, "--lora-rank", "3")
    assert "give --lora-rank, --lora-alpha and --lora-targets" in said(capsys)
    with pytest.raises(SystemExit):
        instruct("build", "uniner", "-d", tmp_path / "labelled.jsonl", "-o", tmp_path / "x")
    assert "system uniner has no stage of training on open labels" in said(capsys)


def test_rules_of_a_teacher_are_trained_on(teacher, corpus, tmp_path):
    instruct("distil", "hum", *corpus, *teacher, "-o", tmp_path)
    more = ("--set", f"rules={tmp_path / 'rules.jsonl'}", "--set", "compound=1.0")
    instruct("build", "hum", *corpus, *more, "-o", tmp_path)
    counts = json.loads((tmp_path / "build.json").read_text())["statistics"]["train"]
    assert counts["strategies"]["rules"] > 0


def test_some_rules_need_no_teacher(corpus, tmp_path):
    instruct("distil", "hum", *corpus, "-o", tmp_path)
    pairs = read_pairs(tmp_path / "rules.jsonl")
    assert {pair.strategy for pair in pairs} == {"numerical"}
    assert all(pair.new_values == pair.old_values[:1] for pair in pairs)


@pytest.mark.parametrize(
    ("system", "flags", "message"),
    [
        ("it", (), "system it learns from no teacher; uniner, seqgpt, hum do"),
        ("seqgpt", (), "unmask instruct distil needs --endpoint"),
        ("hum", (), "unmask instruct distil needs --out"),
        ("hum", ("-o", "x", "--endpoint", "http://x/v1"), "unmask instruct distil needs --teacher"),
    ],
)
def test_what_is_missing_is_named(system, flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        instruct("distil", system, *flags)
    assert message in said(capsys)


def said(capsys) -> str:
    return " ".join(capsys.readouterr().err.split())
