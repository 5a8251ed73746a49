from __future__ import annotations

import json

import pytest

from unmask.instruct.examples import Category, Entity, IEExample
from unmask.instruct.labels import LabelSet
from unmask.instruct.seqgpt import SeqGPT
from unmask.instruct.seqgpt_pretraining import (
    PROMPTS,
    label_texts,
    read_labelled,
    read_prompts,
    two_stages,
)

ANSWERS = {
    "classify": 'Yes: {"topics": ["war", "politics"], "sentiment": "negative", "intent": "report"}',
    "entities": '{"Bush": ["person", "president"], "Blair": ["person"], "Iraq": "country/place"}',
}


class EchoTeacher:
    """Answers by what the prompt asks for, and remembers the prompts."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def ask(self, prompt: str) -> str:
        self.prompts.append(prompt)
        return ANSWERS["classify" if "topics" in prompt else "entities"]


def test_labelled_texts_become_examples_of_five_tasks(tmp_path):
    path, teacher = tmp_path / "pt.jsonl", EchoTeacher()
    assert label_texts(["Bush attacked Iraq"], teacher.ask, path) == 2
    assert label_texts(["Bush attacked Iraq"], teacher.ask, path) == 0
    assert all(prompt.endswith("Text: Bush attacked Iraq") for prompt in teacher.prompts)
    by_task, counts = read_labelled(path)
    assert by_task["CLS"][0].items == (Category("war"), Category("politics"))
    assert by_task["SA"][0].items == (Category("negative"),)
    assert by_task["ID"][0].items == (Category("report"),)
    assert by_task["NER"][0].items == by_task["ET"][0].items
    assert by_task["NER"][0].items == (
        Entity("Bush", "person"),
        Entity("Bush", "president"),
        Entity("Iraq", "country"),
        Entity("Iraq", "place"),
    )
    assert counts["dropped: entity not in the text"] == 1


@pytest.mark.parametrize("answer", ["", "I cannot", "[1]", '{"a": ', "{1, 2}"])
def test_an_answer_that_cannot_be_read_costs_its_text(tmp_path, answer):
    path = tmp_path / "pt.jsonl"
    path.write_text(json.dumps({"text": "x", "kind": "entities", "answer": answer}) + "\n{cut")
    by_task, counts = read_labelled(path)
    assert not any(by_task.values())
    assert counts == {"dropped: answer not readable": 1}


def test_pretraining_comes_first_with_labels_of_the_whole_task(tmp_path):
    labelled = {
        "NER": [
            IEExample("a", "Bush", items=(Entity("Bush", "US President"),), dataset="p"),
            IEExample("b", "Mars", items=(Entity("Mars", "planet"),), dataset="p"),
        ]
    }
    corpus = [IEExample("c", "Bush", items=(Entity("Bush", "PER"),))]
    first, second = two_stages(labelled, corpus, LabelSet(("PER",)), SeqGPT(seed=3))
    assert (first.name, second.name) == ("pretraining", "finetuning")
    assert {name for one in first.queries for name in one.labels} == {"US President", "planet"}
    assert {name for one in second.queries for name in one.labels} == {"person"}


def test_other_wordings_come_from_a_file(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text('{"classify-en": "Do {text}"}')
    assert read_prompts(path) == {**PROMPTS, "classify-en": "Do {text}"}


@pytest.mark.parametrize("content", ['{"classify-en": "Do"}', '{"other": "{text}"}', "[]"])
def test_wordings_of_another_form_are_refused(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"prompts\.json must map some of classify-en"):
        read_prompts(path)


def test_wordings_that_are_no_json_and_unknown_languages_are_named(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"prompts\.json is not JSON"):
        read_prompts(path)
    with pytest.raises(ValueError, match="lang must be en or zh, got 'de'"):
        label_texts([], EchoTeacher().ask, path, "de")
