"""SeqGPT's first stage of training: texts that a large model labelled without any label set.

A teacher is a function from prompt to answer, such as `uniner_teacher.Teacher(...).ask`. It is
asked in our own words, which name the form of the answer; other wordings are read from a file.
Its labels are open, so the wrong ones are drawn from all that occur in the same task: train on
`two_stages` one after the other, the second going on from the adapter of the first.
"""
# ruff: noqa: RUF001 (full-width punctuation is meant)

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unmask.instruct.examples import Category, Entity, IEExample, Item
from unmask.instruct.labels import LabelSet, labels_in
from unmask.instruct.parsing import balanced, load_literal
from unmask.instruct.prompts import Query
from unmask.instruct.seqgpt import SeqGPT

PROMPTS: dict[str, str] = {
    "classify-en": "Label the text below. Answer with one JSON object and nothing else. Its keys "
    'are "topics" (a list of five or more categories), "sentiment" ("positive", "negative" or '
    '"neutral") and "intent" (two words at most: what the writer wants).\n\nText: {text}',
    "classify-zh": "请给下面的文本打标签，只回答一个JSON对象，键为topics（列表，至少五个类别）、"
    "sentiment（正向、负向或中性）和intent（最多两个词，说明作者的意图）。\n\n文本：{text}",
    "entities-en": "Find every entity in the text below, however special. Answer with one JSON "
    "object and nothing else, from each entity as it is written to a list of three or more "
    "types.\n\nText: {text}",
    "entities-zh": "请找出下面文本中的所有细粒度实体，只回答一个JSON对象：键是原文中的实体，"
    "值是该实体的三个以上类型的列表。\n\n文本：{text}",
}
"""What the teacher is asked, by what it shall do and the language."""

STAGE_TASKS = {"classify": ("CLS", "SA", "ID"), "entities": ("NER", "ET")}
CLASSIFY_KEYS = {"topics": "CLS", "sentiment": "SA", "intent": "ID"}


def read_prompts(path: Path) -> dict[str, str]:
    """Other wordings: a JSON object with some of the keys of PROMPTS, each holding "{text}".

    Raises:
        ValueError: when the file is not such an object.
    """
    try:
        wordings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    good = isinstance(wordings, dict) and all(
        key in PROMPTS and isinstance(text, str) and "{text}" in text
        for key, text in wordings.items()
    )
    if not good:
        raise ValueError(
            f'{path} must map some of {", ".join(PROMPTS)} to wordings that hold "{{text}}"'
        )
    return {**PROMPTS, **wordings}


def label_texts(
    texts: Sequence[str],
    ask: Callable[[str], str],
    answers_path: Path,
    lang: str = "en",
    prompts: Mapping[str, str] = PROMPTS,
) -> int:
    """Ask both questions about every text that has no answer in `answers_path` yet.

    Returns:
        How many questions were asked now; each answer is one JSON line.
    """
    if lang not in ("en", "zh"):
        raise ValueError(f"lang must be en or zh, got {lang!r}")
    done = {(record["text"], record["kind"]) for record in _records(answers_path)}
    asked = 0
    with answers_path.open("a", encoding="utf-8") as file:
        for text in dict.fromkeys(texts):
            for kind in STAGE_TASKS:
                if (text, kind) in done:
                    continue
                answer = ask(prompts[f"{kind}-{lang}"].replace("{text}", text))
                record = {"text": text, "kind": kind, "lang": lang, "answer": answer}
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
                file.flush()
                asked += 1
    return asked


def read_labelled(path: Path) -> tuple[dict[str, list[IEExample]], Counter[str]]:
    """Examples by task, and counts of what was kept and dropped.

    An entity that is not in its text is dropped; an answer that cannot be read costs its text.
    """
    counts: Counter[str] = Counter()
    by_task: dict[str, list[IEExample]] = {
        task: [] for tasks in STAGE_TASKS.values() for task in tasks
    }
    for index, record in enumerate(_records(path)):
        found = _items(record, counts)
        if found is None:
            counts["dropped: answer not readable"] += 1
            continue
        for task, items in found.items():
            if items:
                counts[f"kept: {task}"] += 1
                by_task[task].append(
                    IEExample(
                        f"{path.stem}/{index}",
                        record["text"],
                        items=items,
                        dataset=f"pretraining-{task}",
                        lang=record.get("lang", "en"),
                    )
                )
    return by_task, counts


def _items(record: Mapping[str, str], counts: Counter[str]) -> dict[str, tuple[Item, ...]] | None:
    value = _object(record["answer"])
    if value is None:
        return None
    if record["kind"] == "classify":
        return {
            task: tuple(Category(name) for name in _strings(value.get(key)))
            for key, task in CLASSIFY_KEYS.items()
        }
    entities = []
    for text, types in value.items():
        if text.strip() and text in record["text"]:
            entities += [Entity(text, name) for name in _strings(types)]
        else:
            counts["dropped: entity not in the text"] += 1
    return dict.fromkeys(STAGE_TASKS["entities"], tuple(entities))


def _object(answer: str) -> dict[str, Any] | None:
    start = answer.find("{")
    end = balanced(answer, start) if start >= 0 else None
    if end is None:
        return None
    found, value = load_literal(answer[start:end])
    if not found or not isinstance(value, dict):
        return None
    return {str(key): one for key, one in value.items()}


def _strings(value: Any) -> list[str]:
    """Names of a list, or of a string that "/" divides."""
    parts = value.split("/") if isinstance(value, str) else value
    if not isinstance(parts, list):
        return []
    names = (part.strip() for part in parts if isinstance(part, str))
    return list(dict.fromkeys(name for name in names if name))


@dataclass(frozen=True)
class Stage:
    """One stage of training: its name, the system that renders for it, and what it trains on."""

    name: str
    system: SeqGPT
    queries: list[Query]


def two_stages(
    labelled: Mapping[str, Sequence[IEExample]],
    finetuning: Sequence[IEExample],
    labels: LabelSet,
    system: SeqGPT,
) -> Iterator[Stage]:
    """Pretraining, then finetuning with `system`: the order that beats mixing both (section 4.3).

    Each task of pretraining has its own pool of labels, all that occur in it.
    """
    pretraining = replace(system, negatives_from="task", quota=0)
    yield Stage("pretraining", pretraining, pretraining_queries(labelled, system))
    yield Stage("finetuning", system, list(system.render_all(finetuning, labels, train=True)))


def pretraining_queries(labelled: Mapping[str, Sequence[IEExample]], system: SeqGPT) -> list[Query]:
    """The instructions of the first stage, each with labels of its own task only."""
    queries: list[Query] = []
    for task, examples in labelled.items():
        names = dict.fromkeys(
            getattr(item, "type", "") or getattr(item, "name", "")
            for example in examples
            for item in example.items
        )
        # Open labels are natural already, and stay as the teacher wrote them.
        pool = LabelSet(labels_in(names).names, {name: name for name in names})
        used = replace(system, use=task, negatives_from="task", quota=0)
        queries += used.render_all(examples, pool, train=True)
    return queries


def holds_labels(path: Path) -> bool:
    """Whether a file of answers was written by `label_texts`."""
    return "kind" in next(_records(path), {})


def _records(path: Path) -> Iterator[dict[str, str]]:
    """The whole lines of a file of answers; a line that a crash cut short is passed over."""
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            yield from (json.loads(line) for line in lines if line.endswith("\n"))
