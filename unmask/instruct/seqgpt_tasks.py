"""What SeqGPT is asked: every task as a text with labels, to extract or to choose from.

Table 8 of the paper. Two atomic tasks, EXT and CLS; relations and events take both, extraction
first and then a choice for each pair or trigger found. Labels of extraction that name a part of
something ("the object of born in") are written and read back by `part_label` and `item_of`.
"""
# ruff: noqa: RUF001, RUF002 (full-width punctuation is meant)

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from unmask.instruct.examples import (
    Answer,
    Argument,
    Category,
    Entity,
    Event,
    IEExample,
    Item,
    Relation,
)
from unmask.instruct.labels import LabelSet

EXT, CLS = "EXT", "CLS"
TASKS: dict[str, str] = {
    "CLS": CLS,
    "ID": CLS,
    "SA": CLS,
    "MRC-MC": CLS,
    "ET": CLS,
    "NLI": CLS,
    "NER": EXT,
    "SF": EXT,
    "MRC-SE": EXT,
    "EE-EXT": EXT,
    "EE-CLS": CLS,
    "RE-EXT": EXT,
    "RE-CLS": CLS,
}
"""Each task and the atomic task that it is."""

COMPOSITE = {"EE": ("EE-EXT", "EE-CLS"), "RE": ("RE-EXT", "RE-CLS")}
FOLLOWED_BY = {"EE-EXT": "EE-CLS", "RE-EXT": "RE-CLS"}

FRAMES: dict[str, dict[str, str]] = {
    "zh": {
        EXT: "输入: {text}\n抽取: {labels}\n输出: ",
        CLS: "输入: {text}\n分类: {labels}\n输出: ",
    },
    "en": {
        EXT: "Input: {text}\nExtract: {labels}\nOutput:",
        CLS: "Input: {text}\nClassify: {labels}\nOutput:",
    },
}
"""The released models know the Chinese frame only, for texts in either language."""

LABEL_COMMA = "，"
JOINT = "\t"

EVENT_QUESTIONS = {
    "zh": "{text}中{trigger}是什么事件{mark}",
    "en": "What is the event of {trigger} in {text}{mark}",
}
RELATION_QUESTIONS = {
    "zh": "{text}中{head}和{tail}的关系是什么{mark}",
    "en": "What is the relation between {head} and {tail} in {text}{mark}",
}
QUESTION_MARKS = {("zh", "paper"): "?", ("zh", "official"): "？"}

_TRIGGER = {"en": ("", " event"), "zh": ("", "事件")}
_OBJECT = {"en": ("the object of ", ""), "zh": ("", "关系的宾语")}
_SUBJECT = {"en": ("the subject of ", ""), "zh": ("", "关系的主语")}
_ROLE = {"en": ("the ", " of event "), "zh": ("", "事件的")}


@dataclass(frozen=True)
class Question:
    """One question: the text field, all labels that may be asked, and the gold among them.

    `gold` has the spans of each label for EXT, an empty tuple for each right label for CLS.
    `fixed` labels belong to the question and are neither drawn nor shuffled.
    """

    task: str
    text: str
    pool: tuple[str, ...]
    gold: Mapping[str, tuple[str, ...]]
    about: str = ""
    fixed: bool = False


def frame(atomic: str, text: str, labels: Iterable[str], lang: str, gen_token: str) -> str:
    r"""The prompt, byte for byte.

    >>> frame(CLS, "x", ["a", "b"], "zh", "[GEN]")
    '输入: x\n分类: a，b\n输出: [GEN]'
    """
    head, rest = FRAMES[lang][atomic].split("{text}")
    before, after = rest.split("{labels}")
    filled = before + LABEL_COMMA.join(labels) + after
    return head + text + filled + (gen_token if lang == "zh" else "")


def questions(
    example: IEExample, labels: LabelSet, task: str, lang: str, mode: str
) -> Iterator[Question]:
    """The questions of one task about one text; none where the text has nothing to ask about."""
    names = labels.natural_names
    if task in ("CLS", "ID", "SA", "NLI"):
        gold = [labels.to_natural(one.name) for one in example.of(Category)]
        yield Question(task, example.text, _pool(names, gold), dict.fromkeys(gold, ()))
    elif task in ("NER", "SF"):
        spans = _grouped((labels.to_natural(e.type), e.text) for e in example.of(Entity))
        yield Question(task, example.text, _pool(names, spans), spans)
    elif task == "MRC-SE":
        asked = _grouped((one.question, one.text) for one in example.of(Answer))
        if asked:
            yield Question(task, example.text, tuple(asked), asked, fixed=True)
    elif task == "MRC-MC":
        yield from _choices(example)
    elif task == "ET":
        yield from _mentions(example, labels)
    elif task == "RE-EXT":
        yield _relation_parts(example, labels, lang)
    elif task == "EE-EXT":
        yield _event_parts(example, labels, lang)
    elif task == "RE-CLS":
        pairs = dict.fromkeys((one.head, one.tail) for one in example.of(Relation))
        for head, tail in pairs:
            yield relation_question(example, labels, head, tail, lang, mode)
    else:
        for trigger in dict.fromkeys(one.trigger for one in example.of(Event) if one.trigger):
            yield event_question(example, labels, trigger, lang, mode)


def relation_question(
    example: IEExample, labels: LabelSet, head: str, tail: str, lang: str, mode: str
) -> Question:
    """Which relations hold between two strings."""
    pairs = [one for one in example.of(Relation) if (one.head, one.tail) == (head, tail)]
    gold = [labels.to_natural(one.type) for one in pairs]
    values = {"head": head, "tail": tail, "text": example.text, "mark": _mark(lang, mode)}
    return Question(
        "RE-CLS",
        RELATION_QUESTIONS[lang].format_map(values),
        _pool(labels.natural_names, gold),
        dict.fromkeys(gold, ()),
        f"{head}{JOINT}{tail}",
    )


def event_question(
    example: IEExample, labels: LabelSet, trigger: str, lang: str, mode: str
) -> Question:
    """Which events a trigger stands for."""
    gold = [labels.to_natural(one.type) for one in example.of(Event) if one.trigger == trigger]
    values = {"trigger": trigger, "text": example.text, "mark": _mark(lang, mode)}
    return Question(
        "EE-CLS",
        EVENT_QUESTIONS[lang].format_map(values),
        _pool(labels.natural_names, gold),
        dict.fromkeys(gold, ()),
        trigger,
    )


def part_label(part: str, name: str, lang: str, role: str = "") -> str:
    """The label that asks for a part: "subject" or "object" of a relation, "trigger" or "role".

    >>> part_label("role", "Life/Die", "en", "Victim"), part_label("trigger", "Life/Die", "en")
    ('the Victim of event Life/Die', 'Life/Die event')
    """
    if part == "role":
        before, between = _ROLE[lang]
        first, second = (role, name) if lang == "en" else (name, role)
        return f"{before}{first}{between}{second}"
    before, after = {"subject": _SUBJECT, "object": _OBJECT, "trigger": _TRIGGER}[part][lang]
    return f"{before}{name}{after}"


def item_of(task: str, label: str, span: str, about: str) -> Item:
    """What an answer says, from a label and, for extraction, its span.

    >>> item_of("EE-EXT", "the Victim of event Life/Die", "Bob", "")
    Event(type='Life/Die', trigger=None, arguments=(Argument(role='Victim', text='Bob'),))
    """
    if task == "RE-EXT":
        return _relation_part(label, span)
    if task == "EE-EXT":
        return _event_part(label, span)
    if task == "RE-CLS":
        head, _, tail = about.partition(JOINT)
        return Relation(head, label, tail)
    if task == "EE-CLS":
        return Event(label, about)
    if task in ("MRC-SE", "MRC-MC"):
        return Answer(span, label) if task == "MRC-SE" else Answer(label, about)
    if task == "ET":
        return Entity(about, label)
    return Entity(span, label) if TASKS[task] == EXT else Category(label)


def _mark(lang: str, mode: str) -> str:
    return QUESTION_MARKS.get((lang, mode), "?")


def _pool(names: Iterable[str], gold: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*names, *gold]))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Strings by label, each once; a label whose only string is empty has none."""
    found: dict[str, dict[str, None]] = {}
    for label, text in pairs:
        found.setdefault(label, {})
        if text:
            found[label][text] = None
    return {label: tuple(texts) for label, texts in found.items()}


def _choices(example: IEExample) -> Iterator[Question]:
    for one in example.of(Answer):
        if one.choices:
            text = one.question
            if example.text not in ("", one.question):
                text = f"{example.text}{JOINT}{one.question}"
            gold: dict[str, tuple[str, ...]] = {one.text: ()} if one.text else {}
            yield Question("MRC-MC", text, one.choices, gold, one.question, fixed=True)


def _mentions(example: IEExample, labels: LabelSet) -> Iterator[Question]:
    mentions = _grouped((e.text, labels.to_natural(e.type)) for e in example.of(Entity))
    for mention, types in mentions.items():
        pool = _pool(labels.natural_names, types)
        text = f"{example.text}{JOINT}{mention}"
        yield Question("ET", text, pool, dict.fromkeys(types, ()), mention)


def _relation_parts(example: IEExample, labels: LabelSet, lang: str) -> Question:
    pairs = []
    for one in example.of(Relation):
        name = labels.to_natural(one.type)
        pairs.append((part_label("object", name, lang), one.tail))
        pairs.append((part_label("subject", name, lang), one.head))
    asked = [
        part_label(part, name, lang)
        for name in labels.natural_names
        for part in ("object", "subject")
    ]
    gold = _grouped(pairs)
    return Question("RE-EXT", example.text, _pool(asked, gold), gold)


def _event_parts(example: IEExample, labels: LabelSet, lang: str) -> Question:
    pairs = []
    for one in example.of(Event):
        name = labels.to_natural(one.type)
        pairs.append((part_label("trigger", name, lang), one.trigger or ""))
        pairs += [(part_label("role", name, lang, arg.role), arg.text) for arg in one.arguments]
    asked = []
    for raw in labels.names:
        name = labels.to_natural(raw)
        asked.append(part_label("trigger", name, lang))
        asked += [part_label("role", name, lang, role) for role in labels.roles.get(raw, ())]
    gold = {label: spans for label, spans in _grouped(pairs).items() if spans}
    return Question("EE-EXT", example.text, _pool(asked, gold), gold)


def _relation_part(label: str, span: str) -> Relation:
    for lang in ("en", "zh"):
        for forms, is_object in ((_OBJECT, True), (_SUBJECT, False)):
            name = _between(label, *forms[lang])
            if name:
                return Relation("", name, span) if is_object else Relation(span, name, "")
    return Relation(span, label, "")


def _event_part(label: str, span: str) -> Event:
    before, between = _ROLE["en"]
    role, found, name = label.removeprefix(before).partition(between)
    if label.startswith(before) and found:
        return Event(name, None, (Argument(role, span),))
    name, found, role = label.partition(_ROLE["zh"][1])
    if found and role:
        return Event(name, None, (Argument(role, span),))
    for lang in ("en", "zh"):
        if name := _between(label, *_TRIGGER[lang]):
            return Event(name, span)
    return Event(label, span)


def _between(text: str, before: str, after: str) -> str:
    """What stands between; empty when the text is not of that form."""
    if text.startswith(before) and text.endswith(after) and len(text) > len(before + after):
        return text[len(before) : len(text) - len(after)]
    return ""
