"""Hum (Zheng et al., 2502.03843): one JSON object asks, in eleven tasks and many shapes.

A basic instruction has a sentence, a schema and the text. A compound one adds guidelines (see
`hum_guidelines`), preference rules (`hum_rules`) or another form of answer (`hum_formats`). No
code or data was published: shapes are those of the paper's appendix, sentences are ours, batching
of labels is its forerunner's, and rates that the paper leaves open are settings.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from unmask.instruct.examples import Entity, IEExample, Item, Relation
from unmask.instruct.hum_answers import read, write
from unmask.instruct.hum_formats import COLUMNS, EMPTIES, STYLES, header
from unmask.instruct.hum_gold import SPLITS, Ask, asks, batches, label_of, renamed
from unmask.instruct.hum_grammar import grammar_of
from unmask.instruct.hum_guidelines import (
    Rates,
    Scheme,
    collect_schemes,
    draw_examples,
    draw_guides,
    first_of_everything,
    read_schemes,
)
from unmask.instruct.hum_mix import FORMATS, GUIDELINES, RULES, draw_strategies, mark, statistics
from unmask.instruct.hum_rules import RulePair, read_pairs
from unmask.instruct.hum_schema import Shown, schema
from unmask.instruct.hum_scoring import score_task
from unmask.instruct.hum_wordings import TASKS, load_wordings
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import Parsed, malformed, parsed
from unmask.instruct.prompts import Query, single_turn
from unmask.instruct.system import Decoding, Grammar, System

FROM_TRAINING = "train"
OUTPUT_FORMATS = ("json", "json-list")
SHOWN_IN_EVALUATION = ("", "description", "example", "description+example")


@dataclass(frozen=True)
class Hum(System):
    """See the module.

    `use` names tasks, separated by commas. `instructions`, `schemes` and `rules` are files of
    sentences, of what is known about labels, and of preference rules; schemes "train" are collected
    from the training split, "none" there are none. A training instruction is
    compound at the rate `compound`; `description_rate`, `variant_rate`, `mask_rate` and
    `example_rate` say how often guidelines hold each, `negative_dropout` how often an absent label
    is left out of them. `evaluate_with` shows descriptions and examples in evaluation. `split` is
    the number of labels in an instruction, 0 for the task's own.
    """

    use: str = "NER"
    lang: str = "auto"
    instructions: str = ""
    schemes: str = "train"
    rules: str = ""
    compound: float = 0.45
    description_rate: float = 0.75
    variant_rate: float = 0.5
    mask_rate: float = 0.5
    example_rate: float = 0.5
    negative_dropout: float = 0.15
    evaluate_with: str = ""
    split: int = 0

    _collected: ClassVar[Mapping[str, Scheme]] = {}
    name: ClassVar[str] = "hum"
    tasks: ClassVar[tuple[str, ...]] = TASKS
    recipe: ClassVar[dict[str, Any]] = {
        "lora_rank": 64,
        "lora_alpha": 64,
        "lora_dropout": 0.05,
        "learning_rate": 5e-5,
        "weight_decay": 1e-4,
        "batch_size": 4,
        "accumulation": 80,
        "max_subtokens": 2000,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("lang", ("auto", "en", "zh"))
        self._check("evaluate_with", SHOWN_IN_EVALUATION)
        for name in ("compound", "description_rate", "variant_rate", "mask_rate", "example_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"hum: {name} must be between 0 and 1, got {getattr(self, name)}")
        unknown = [task for task in self.used if task not in TASKS]
        if unknown:
            raise ValueError(
                f"hum: use names unknown tasks {unknown}; choose of {', '.join(TASKS)}"
            )

    @property
    def used(self) -> tuple[str, ...]:
        """The tasks of `use`."""
        return tuple(name.strip() for name in self.use.split(","))

    def decoding(self) -> Decoding:
        """Sampled, nearly greedy, at most 500 new tokens."""
        return Decoding(max_new_tokens=500, sample=True, temperature=0.2, top_p=0.95)

    def queries(self, example: IEExample, labels: LabelSet, train: bool) -> Iterable[Query]:
        """Every label in batches; for training the right ones and some others, made compound."""
        schemes = self._schemes(labels)
        for task in self.used:
            for index, ask in enumerate(asks(example, labels, task)):
                yield from self._about(example, ask, schemes, f"{task}{index}", train)

    def prepared(self, examples: Sequence[IEExample], labels: LabelSet) -> Hum:
        """With schemes of the training examples, unless others are named."""
        if self.schemes != FROM_TRAINING:
            return self
        collected: dict[str, Scheme] = {}
        for task in self.used:
            collected.update(collect_schemes(examples, labels, task, self.seed))
        prepared = replace(self)
        object.__setattr__(prepared, "_collected", collected)
        return prepared

    def _schemes(self, labels: LabelSet) -> dict[str, Scheme]:
        """Those of the file or the training split, else the description of the label set."""
        described = {
            labels.to_natural(raw): Scheme(descriptions=(text,))
            for raw, text in labels.descriptions.items()
        }
        read = {} if self.schemes in (FROM_TRAINING, "none") else read_schemes(self.schemes)
        return {**described, **self._collected, **read}

    def _about(
        self,
        example: IEExample,
        ask: Ask,
        schemes: Mapping[str, Scheme],
        index: str,
        train: bool,
    ) -> Iterator[Query]:
        if not ask.labels:
            yield self._query(example, ask, (), index)
            return
        generator = self.generator(f"{example.id}/{index}")
        size = self.split or SPLITS.get(ask.task, 0)
        labels = _chosen(ask, schemes, size, generator) if train else list(ask.labels)
        for number, batch in enumerate(batches(labels, size)):
            suffix = f"{index}.{number}"
            if train:
                yield from self._compound(example, ask, batch, schemes, suffix, generator)
            else:
                yield self._evaluated(example, ask, batch, schemes, suffix)

    def _evaluated(
        self,
        example: IEExample,
        ask: Ask,
        batch: Sequence[Shown],
        schemes: Mapping[str, Scheme],
        suffix: str,
    ) -> Query:
        shots: list[dict[str, Any]] = []
        if "example" in self.evaluate_with:
            shots = draw_examples(batch, schemes, example.text, None)
        if "description" in self.evaluate_with:
            batch = [first_of_everything(one, schemes.get(one.name, Scheme())) for one in batch]
        return self._query(example, ask, batch, suffix, shots=shots)

    def _compound(
        self,
        example: IEExample,
        ask: Ask,
        batch: Sequence[Shown],
        schemes: Mapping[str, Scheme],
        suffix: str,
        generator: random.Random,
    ) -> Iterator[Query]:
        """One training instruction, or one for each rule; basic where no strategy fits."""
        pairs = self._pairs(example, ask, batch)
        possible = {GUIDELINES} | ({FORMATS} if ask.task in COLUMNS else set())
        possible |= {RULES} if pairs else set()
        strategies = draw_strategies(self.compound, possible, generator)
        shots: list[dict[str, Any]] = []
        style, empty = "json", "[]"
        used = []
        if GUIDELINES in strategies:
            kept = self._without_some(ask, batch, generator)
            rates = Rates(self.description_rate, self.variant_rate, self.mask_rate)
            guided = draw_guides(kept, schemes, rates, generator)
            if generator.random() < self.example_rate:
                shots = draw_examples(guided, schemes, example.text, generator)
            if shots or guided != kept:
                batch = guided
                used.append(GUIDELINES)
        if FORMATS in strategies:
            forms = [(s, e) for s in STYLES for e in EMPTIES if (s, e) != ("json", "[]")]
            style, empty = generator.choice(forms)
            used.append(FORMATS)
        if RULES in strategies:
            yield from self._ruled(
                example, ask, generator.choice(pairs), suffix, style, empty, used
            )
            return
        yield self._query(example, ask, batch, suffix, style, empty, shots, used)

    def _without_some(
        self, ask: Ask, batch: Sequence[Shown], generator: random.Random
    ) -> list[Shown]:
        """The labels shuffled, some absent ones left out, never all."""
        kept = [
            one
            for one in batch
            if one.name in ask.present or generator.random() >= self.negative_dropout
        ] or [generator.choice(batch)]
        generator.shuffle(kept)
        return kept

    def _pairs(self, example: IEExample, ask: Ask, batch: Sequence[Shown]) -> list[RulePair]:
        if not self.rules or ask.task not in ("NER", "RE"):
            return []
        names = {one.name for one in batch}
        found = _pairs_by_text(self.rules).get(example.text, ())
        return [pair for pair in found if pair.task == ask.task and pair.label in names]

    def _ruled(
        self,
        example: IEExample,
        ask: Ask,
        pair: RulePair,
        suffix: str,
        style: str,
        empty: str,
        used: Sequence[str],
    ) -> Iterator[Query]:
        """The same label twice, under the rule that the gold follows and under the changed one."""
        versions = (
            ("old", pair.old_rule, pair.old_values),
            ("new", pair.new_rule, pair.new_values),
        )
        for version, rule, values in versions:
            shown = Shown(pair.label, pair.label, pair.description, rule)
            items = tuple(_ruled_item(ask.task, pair.label, value) for value in values)
            ruled = replace(ask, labels=(shown,), items=items)
            strategies = [*(name for name in used if name != GUIDELINES), RULES]
            yield self._query(
                example, ruled, (shown,), f"{suffix}.{version}", style, empty, (), strategies
            )

    def _query(
        self,
        example: IEExample,
        ask: Ask,
        shown: Sequence[Shown],
        suffix: str,
        style: str = "json",
        empty: str = "[]",
        shots: Sequence[Mapping[str, Any]] = (),
        strategies: Sequence[str] = (),
    ) -> Query:
        names = {one.name: one.shown for one in shown}
        items: tuple[Item, ...] = ask.items
        if ask.labels:
            items = tuple(renamed(one, names) for one in items if label_of(one) in names)
        labels = tuple(one.shown for one in shown) or ask.choices
        roles = {one.shown: one.roles for one in shown}
        answer = write(ask.task, items, labels, roles, style, empty)
        prompt = self._prompt(example, ask, shown, style, empty, shots)
        return Query(
            mark(f"{example.id}#{suffix}", strategies),
            example.id,
            ask.task,
            example.text,
            labels,
            single_turn(prompt, answer),
            items,
            example.words,
            example.dataset,
            f"{style} {empty}" if ask.task in COLUMNS else ask.question,
            tuple(dict.fromkeys(role for many in roles.values() for role in many)),
        )

    def _prompt(
        self,
        example: IEExample,
        ask: Ask,
        shown: Sequence[Shown],
        style: str,
        empty: str,
        shots: Sequence[Mapping[str, Any]],
    ) -> str:
        if ask.task == "IG":
            return f"{ask.question}\n{example.text}" if example.text else ask.question
        lang = self.lang if self.lang != "auto" else "zh" if example.lang == "zh" else "en"
        texts = load_wordings(self.instructions)[lang]
        if ask.task == "OpenIE":
            return f"{texts['OpenIE']}\nInput:{example.text}"
        if ask.task == "MRC":
            wording = texts["MRC-choice" if ask.choices else "MRC"]
            asked = {"instruction": wording, "input": example.text, "question": ask.question}
            return _json({**asked, **({"choice": list(ask.choices)} if ask.choices else {})})
        wording = texts[ask.task] + (texts["example"] if shots else "")
        asked = {"schema": schema(ask.task, shown)}
        if shots:
            asked["example"] = list(shots)
        if (style, empty) != ("json", "[]"):
            form = header(ask.task, style)
            wording += texts[style].replace("{header}", form)
            wording += (
                texts["omit"] if empty == "omit" else texts["empty"].replace("{empty}", empty)
            )
            if style in OUTPUT_FORMATS:
                asked["output_format"] = form
        return _json({"instruction": wording, **asked, "input": example.text})

    def parse(self, output: str, query: Query) -> Parsed:
        """Items in the form that the query asks for; mode "official" takes whole JSON only."""
        style, empty = "json", "[]"
        if query.task in COLUMNS:
            style, _, empty = query.about.partition(" ")
            style = style if style in STYLES else "json"
        as_json = style == "json" and query.task not in ("OpenIE", "IG")
        if self.mode == "official" and as_json and not (query.task == "MRC" and query.labels):
            try:
                json.loads(output)
            except (ValueError, RecursionError):
                return malformed(f"not JSON as a whole: {output.strip()[:60]}")
        items, errors = read(
            query.task, output, query.labels, query.roles, query.about, style, empty
        )
        return malformed(errors[0]) if items is None else parsed(items, errors)

    def evaluate(self, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        """Scores by task, exact items as multisets, and `f1` of the first (or its accuracy)."""
        by_task: dict[str, list[tuple[Sequence[Item], Sequence[Item]]]] = {}
        for query, output in pairs:
            sides = (query.items, self.parse(output, query).items)
            by_task.setdefault(query.task, []).append(sides)
        scores = {task: score_task(task, sides) for task, sides in by_task.items()}
        first = next(iter(scores.values()), {})
        return {"f1": first.get("f1", first.get("accuracy", 0.0)), "tasks": scores}

    def statistics(self, queries: Sequence[Query]) -> dict[str, Any]:
        """Also of strategies and forms of answers."""
        return statistics(queries)

    def grammar(self, query: Query) -> Grammar | None:
        """The well-formed answers in plain JSON."""
        return grammar_of(query)


def _chosen(
    ask: Ask, schemes: Mapping[str, Scheme], size: int, generator: random.Random
) -> list[Shown]:
    """Labels of a training text: the right ones, those easily taken for them, some others."""
    present = [one for one in ask.labels if one.name in ask.present]
    hard = {name for one in present if one.name in schemes for name in schemes[one.name].confusable}
    rest = [one for one in ask.labels if one.name not in ask.present]
    others = [one for one in rest if one.name not in hard]
    if size:
        others = generator.sample(others, min(size, len(others)))
    chosen = [*present, *(one for one in rest if one.name in hard), *others]
    generator.shuffle(chosen)
    return chosen


def _ruled_item(task: str, label: str, value: Any) -> Item:
    if task == "NER":
        return Entity(value, label)
    return Relation(value["subject"], label, value["object"])


@lru_cache(maxsize=4)
def _pairs_by_text(path: str) -> Mapping[str, list[RulePair]]:
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no file of preference rules at {path}")
    found: dict[str, list[RulePair]] = {}
    for pair in read_pairs(Path(path)):
        found.setdefault(pair.text, []).append(pair)
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
