"""Preference rules: the same text annotated in two ways, each with the rule that it follows.

A large model describes a label, states the rule that the gold follows, changes the rule under one
of six strategies and annotates anew (figure 3 of the paper). Our prompt says so in our own words;
another is read from a file. What comes back is checked before it is used. Four strategies can
also be applied without a model.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unmask.instruct.parsing import balanced, load_literal

STRATEGIES: dict[str, str] = {
    "entity_boundaries": "Change how far a mention reaches: with or without titles, articles, "
    "modifiers before or after it.",
    "numerical": "Change how many are wanted, by number or by order in time or logic: the first "
    "two, the most recent, the highest.",
    "granularity": "Change how fine the type is: only one kind of what it covers, or more.",
    "punctuation": "Change what happens to marks and units around a mention: currency signs, "
    "quotes, units of measure.",
    "nesting": "Change what happens to a mention inside another one: the outer only, or both.",
    "reverse": "Read the relation from its other end, so that subject and object change places.",
}
"""The six strategies, in our own words."""

PROMPT = """\
You annotate text for {task}. First say what the label means and which rule the given annotation \
follows. Then change the rule a little under the strategy below, if that is possible for this \
text, and annotate the text anew under the changed rule. Copy mentions from the text.

Strategy: {strategy}
Text: {text}
Label: {label}
Annotation: {values}

Answer in four lines, the last a JSON list. If the rule cannot be changed so, \
write "New Rule: None".
Schema Description:
Original Rule:
New Rule:
New Label:"""

FIELDS = ("Schema Description", "Original Rule", "New Rule", "New Label")
_FIELD = re.compile(
    rf"^[ \t*#]{{0,8}}({'|'.join(FIELDS)})[ \t*]{{0,4}}:[ \t*]{{0,4}}", re.MULTILINE | re.IGNORECASE
)
_NUMBER = re.compile(r"\d[\d.,]*\d|\d")


@dataclass(frozen=True)
class Sample:
    """One label of one text with its gold values: strings, or pairs of a relation."""

    text: str
    label: str
    values: tuple[Any, ...]
    task: str = "NER"


@dataclass(frozen=True)
class RulePair:
    """One text and label under two rules."""

    text: str
    label: str
    task: str
    strategy: str
    description: str
    old_rule: str
    new_rule: str
    old_values: tuple[Any, ...]
    new_values: tuple[Any, ...]


def read_prompt(path: Path) -> str:
    """Another prompt: a text file that holds {text}, {label}, {values} and {strategy}.

    Raises:
        ValueError: when one of them is missing.
    """
    prompt = path.read_text(encoding="utf-8")
    missing = [f for f in ("{text}", "{label}", "{values}", "{strategy}") if f not in prompt]
    if missing:
        raise ValueError(
            f"{path} does not hold {missing[0]}, which stands for a part of the sample"
        )
    return prompt


def rule_prompt(sample: Sample, strategy: str, prompt: str = PROMPT) -> str:
    """What the model is asked about one sample.

    Raises:
        ValueError: for an unknown strategy.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; choose one of {', '.join(STRATEGIES)}")
    parts = {
        "{task}": sample.task,
        "{strategy}": STRATEGIES[strategy],
        "{text}": sample.text,
        "{label}": sample.label,
        "{values}": json.dumps(list(sample.values), ensure_ascii=False),
    }
    return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], prompt)


def read_rule_answer(answer: str, sample: Sample, strategy: str) -> tuple[RulePair | None, str]:
    """The pair that an answer makes, and why there is none. Total.

    Refused: a missing field, "None" as the new rule, values equal to the old ones, values that
    are not in the text.
    """
    found = list(_FIELD.finditer(answer))
    ends = [one.start() for one in found[1:]] + [len(answer)] * bool(found)
    fields = {
        one[1].title(): answer[one.end() : end].strip()
        for one, end in zip(found, ends, strict=True)
    }
    missing = [name for name in FIELDS if name not in fields]
    if fields.get("New Rule", "").strip(' ."').casefold() in ("none", "not possible"):
        return None, "refused by the model"
    if missing:
        return None, f"no field: {missing[0]}"
    values = _list(fields["New Label"])
    if values is None:
        return None, "the new label is no JSON list"
    if not fields["Original Rule"] or not fields["New Rule"]:
        return None, "an empty rule"
    pair = RulePair(
        sample.text,
        sample.label,
        sample.task,
        strategy,
        fields["Schema Description"],
        fields["Original Rule"],
        fields["New Rule"],
        sample.values,
        tuple(values),
    )
    return (None, fault) if (fault := check(pair)) else (pair, "")


def check(pair: RulePair) -> str:
    """Why a pair cannot be used; empty when it can."""
    if sorted(map(repr, pair.new_values)) == sorted(map(repr, pair.old_values)):
        return "the new label is the old one"
    for value in pair.new_values:
        strings = _strings(value, pair.task)
        if not strings:
            return "a value of another form"
        if not all(one in pair.text for one in strings):
            return "a value that is not in the text"
    return ""


def _strings(value: Any, task: str) -> list[str]:
    if task == "NER":
        return [value] if isinstance(value, str) and value else []
    if not isinstance(value, dict) or set(value) != {"subject", "object"}:
        return []
    strings = [value["subject"], value["object"]]
    return strings if all(isinstance(one, str) and one for one in strings) else []


def _list(text: str) -> list[Any] | None:
    start = text.find("[")
    end = balanced(text, start) if start >= 0 else None
    if end is None:
        return None
    found, value = load_literal(text[start:end])
    return value if found and isinstance(value, list) else None


def synthesise_rules(
    samples: Sequence[Sample],
    ask: Callable[[str], str],
    path: Path,
    strategies: Sequence[str] = tuple(STRATEGIES),
    prompt: str = PROMPT,
) -> Counter[str]:
    """Ask about every sample that `path` has no answer to, under the strategies in turn.

    `ask` is a function from prompt to answer, such as `uniner_teacher.Teacher(...).ask`. Relations
    are reversed, entities never. Usable pairs are appended to `path` as JSON lines.

    Returns:
        Counts of what was kept and why the rest was not.
    """
    done = {(pair.text, pair.label, pair.strategy) for pair in read_pairs(path)}
    counts: Counter[str] = Counter()
    with path.open("a", encoding="utf-8") as file:
        for sample, strategy in _assigned(samples, strategies):
            if (sample.text, sample.label, strategy) in done:
                continue
            answer = ask(rule_prompt(sample, strategy, prompt))
            pair, reason = read_rule_answer(answer, sample, strategy)
            counts[f"kept: {strategy}" if pair else f"dropped: {reason}"] += 1
            if pair:
                file.write(json.dumps(asdict(pair), ensure_ascii=False) + "\n")
                file.flush()
    return counts


def _assigned(samples: Sequence[Sample], strategies: Sequence[str]) -> Iterator[tuple[Sample, str]]:
    for index, sample in enumerate(samples):
        fitting = [name for name in strategies if sample.task != "NER" or name != "reverse"]
        if fitting:
            yield sample, fitting[index % len(fitting)]


def read_pairs(path: Path) -> list[RulePair]:
    """The whole lines of a file of pairs; none when there is no file.

    Raises:
        ValueError: for a line of another form, with its number.
    """
    if not path.exists():
        return []
    pairs = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.endswith("\n"):
                continue  # a crash cut it short
            try:
                values = json.loads(line)
                for key in ("old_values", "new_values"):
                    values[key] = tuple(values[key])
                pairs.append(RulePair(**values))
            except (ValueError, TypeError, KeyError):
                raise ValueError(
                    f"{path}:{number} is no preference rule; expected a JSON object with "
                    "text, label, task, strategy, description, rules and values"
                ) from None
    return pairs


def without_model(sample: Sample, strategy: str) -> RulePair | None:
    """A pair by rule, where one can be made: punctuation, numerical, nesting or reverse."""
    rewriter = REWRITERS.get(strategy)
    if rewriter is None or (strategy == "reverse") != (sample.task == "RE"):
        return None
    old_rule, new_rule, values = rewriter(sample)
    pair = RulePair(
        sample.text,
        sample.label,
        sample.task,
        strategy,
        "",
        old_rule,
        new_rule,
        sample.values,
        tuple(values),
    )
    return None if check(pair) else pair


Rewritten = tuple[str, str, list[Any]]


def _bare_numbers(sample: Sample) -> Rewritten:
    values = []
    for value in sample.values:
        number = _NUMBER.search(value) if isinstance(value, str) else None
        values.append(number[0] if number else value)
    return (
        "Take signs and units around a number with it.",
        "Leave out signs and units around a number.",
        values,
    )


def _first_only(sample: Sample) -> Rewritten:
    ordered = sorted(
        (value for value in sample.values if isinstance(value, str)),
        key=lambda value: sample.text.find(value),
    )
    return "Take every mention.", "Take only the first mention in the text.", ordered[:1]


def _outer_only(sample: Sample) -> Rewritten:
    strings = [value for value in sample.values if isinstance(value, str)]
    outer = [one for one in strings if not any(one != big and one in big for big in strings)]
    return (
        "Take mentions inside other mentions too.",
        "Leave out mentions inside other mentions.",
        outer,
    )


def _reversed(sample: Sample) -> Rewritten:
    values = [
        {"subject": value["object"], "object": value["subject"]}
        for value in sample.values
        if isinstance(value, dict) and set(value) == {"subject", "object"}
    ]
    return (
        f"Read {sample.label} from the subject to the object.",
        f"Read {sample.label} the other way: subject and object change places.",
        values,
    )


REWRITERS: Mapping[str, Callable[[Sample], Rewritten]] = {
    "punctuation": _bare_numbers,
    "numerical": _first_only,
    "nesting": _outer_only,
    "reverse": _reversed,
}


def pairs_without_model(samples: Iterable[Sample]) -> list[RulePair]:
    """Every pair that the rewriters make."""
    pairs = (without_model(sample, name) for sample in samples for name in REWRITERS)
    return [pair for pair in pairs if pair]
