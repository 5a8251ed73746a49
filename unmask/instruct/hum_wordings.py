"""The sentences that introduce Hum's tasks, in our own words; others come from a file.

An instruction is one JSON object whose keys are Hum's (`instruction`, `schema`, `input`,
`question`, `choice`, `example`, `output_format`). Only the value of `instruction` is worded here.
"""
# ruff: noqa: E501, RUF001 (a Chinese letter counts twice, full-width punctuation is meant)

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

TASKS = ("NER", "RE", "SPO", "EE", "EET", "EEA", "OpenIE", "KGE", "MRC", "TC", "IG")

ENGLISH: dict[str, str] = {
    "NER": "Find the entities in input that belong to the types of schema. Answer with a JSON "
    "object from every type to its entities, with an empty list where there are none.",
    "RE": "Find the relations of schema that hold in input. Answer with a JSON object from every "
    "relation to its pairs of subject and object, with an empty list where there are none.",
    "SPO": "Find the triples in input whose subject, predicate and object are of a kind listed in "
    "schema. Answer with a JSON object from every predicate to its pairs of subject and object, "
    "with an empty list where there are none.",
    "EE": "Find the events of schema in input, each with its trigger and arguments. Answer with a "
    "JSON object from every event type to its events: an empty list where there are none, NAN for "
    "an argument that is missing, a list for one that has several values.",
    "EET": "Find the words in input that trigger events of schema. Answer with a JSON object from "
    "every event type to its triggers, with an empty list where there are none.",
    "EEA": "The events of schema happen in input. Find their arguments. Answer with a JSON object "
    "from every event type to its events, each from role to value: NAN for an argument that is "
    "missing, a list for one that has several values.",
    "KGE": "Find the entities of the types in schema and what input says about their attributes. "
    "Answer with a JSON object from type to entity to attribute to value, with a list for several "
    "values. Leave out what is not there.",
    "OpenIE": "Find every statement in the text and name its parts: subject, predicate, object, "
    'time, location. Write one line a statement, as ("text":[part], "text":[part]), with the parts '
    "as they stand in the text. Leave out parts that are not there.",
    "MRC": "Answer the question from input, as a JSON object with the key answer. If input does "
    "not say, answer: Not mentioned",
    "MRC-choice": "Answer the question from input with one of the answers in choice, word for "
    "word and without anything else.",
    "TC": "Which of the labels in schema fits input? Answer with a JSON object with the key type.",
    "example": " The examples in example show how.",
    "json": " Form: {header}.",
    "json-list": " Write a JSON list of objects of the form {header}.",
    "lines": " Write one line for each, as {header}.",
    "markdown": " Write a markdown table with the header {header}.",
    "code": " Write a Python list with elements of the form {header}.",
    "empty": " Where there is nothing, write {empty}.",
    "omit": " Leave out what is not there.",
}

CHINESE: dict[str, str] = {
    "NER": "找出input中属于schema所列类型的实体。用JSON对象回答，键为每个类型，值为实体列表，没有则为空列表。",
    "RE": "找出input中成立的schema所列关系。用JSON对象回答，键为每个关系，值为subject与object的列表，没有则为空列表。",
    "SPO": "找出input中主语、谓语和宾语符合schema的三元组。用JSON对象回答，键为每个谓语，值为subject与object的列表，"
    "没有则为空列表。",
    "EE": "找出input中schema所列的事件及其触发词和论元。用JSON对象回答，键为每个事件类型：没有事件为空列表，"
    "缺少的论元为NAN，多个值用列表。",
    "EET": "找出input中触发schema所列事件的词。用JSON对象回答，键为每个事件类型，值为触发词列表，没有则为空列表。",
    "EEA": "input中发生了schema所列的事件，找出它们的论元。用JSON对象回答，键为每个事件类型，缺少的论元为NAN，"
    "多个值用列表。",
    "KGE": "找出schema所列类型的实体以及input中关于其属性的信息。用JSON对象回答，依次为类型、实体、属性、值，"
    "多个值用列表，没有的不写。",
    "OpenIE": "找出文本中的每个陈述并标明其成分：subject、predicate、object、time、location。每行一个陈述，"
    '写作("原文":[成分], "原文":[成分])，按原文顺序，没有的不写。',
    "MRC": "根据input回答question，用键为answer的JSON对象回答。若input没有提到，回答：Not mentioned",
    "MRC-choice": "根据input从choice中选出question的答案，原样写出，不加其他内容。",
    "TC": "schema中哪个标签适合input？用键为type的JSON对象回答。",
    "example": "可参考example中的例子。",
    "json": "格式：{header}。",
    "json-list": "写成JSON列表，元素形如{header}。",
    "lines": "每行写一个，形如{header}。",
    "markdown": "写成markdown表格，表头为{header}。",
    "code": "写成Python列表，元素形如{header}。",
    "empty": "没有的写{empty}。",
    "omit": "没有的不写。",
}

WORDINGS: dict[str, dict[str, str]] = {"en": ENGLISH, "zh": CHINESE}


@lru_cache(maxsize=8)
def load_wordings(path: str) -> Mapping[str, Mapping[str, str]]:
    """Our wordings, with those of a JSON file `{"en": {"NER": "..."}}` in their place.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is not such an object.
    """
    if not path:
        return WORDINGS
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file of instructions at {path}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    good = isinstance(given, dict) and all(
        lang in WORDINGS
        and isinstance(texts, dict)
        and all(key in ENGLISH and isinstance(text, str) for key, text in texts.items())
        for lang, texts in given.items()
    )
    if not good:
        raise ValueError(
            f"{path} must map en or zh to instructions; their keys are {', '.join(ENGLISH)}"
        )
    return {lang: {**texts, **given.get(lang, {})} for lang, texts in WORDINGS.items()}
