"""InstructUIE (Wang et al., 2304.08085): extraction as text to text, with a list of options.

Three tasks (NER, RE, EE) and six that help them. In mode "paper" answers and scores are what the
paper says; in mode "official" the released loader's and evaluator's deviations are kept, see
`instructuie_templates` and `instructuie_official`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from unmask.instruct import instructuie_official as official
from unmask.instruct.examples import (
    Entity,
    Event,
    IEExample,
    Item,
    Relation,
    at_most_per_dataset,
)
from unmask.instruct.instructuie_grammar import grammar_of
from unmask.instruct.instructuie_parsing import parse_answer
from unmask.instruct.instructuie_templates import (
    APOSTROPHE,
    INSTRUCTIONS,
    NONE,
    TASKS,
    answer,
    events_answer,
    instruction,
    prompt,
    released_prompt,
)
from unmask.instruct.labels import LabelSet
from unmask.instruct.metrics import MicroF1
from unmask.instruct.parsing import Parsed
from unmask.instruct.prompts import Query, single_turn
from unmask.instruct.system import Decoding, Grammar, System

NOT_ANNOTATED = frozenset({"NA", ""})
IN_FOLDER = {"NER": ("NER", "ES", "ET"), "RE": ("RE", "EP", "EPR"), "EE": ("EE",)}
IN_FOLDER |= {"EET": ("EET",), "EEA": ("EEA",)}
"""Tasks that data sets under a folder of the released collection are asked."""
AUXILIARY = frozenset({"ES", "ET", "EP", "EPR"})


@dataclass(frozen=True)
class InstructUIE(System):
    """See the module.

    `use` names tasks, separated by commas; a task is asked where the example has labels for it.
    `wording` is "code" or "paper" (Table 8), `strategy` "single" or "multiple" (any wording, at
    random). `name_task` and `name_dataset` put their lines before the instruction. At most
    `max_per_dataset` examples are trained on, drawn at random or, in mode "official", the first;
    there auxiliary queries are kept with `aux_share` only. `fix_none` scores as released but for
    the one fault that UniversalNER corrected.
    """

    use: str = "NER"
    wording: str = "code"
    strategy: str = "single"
    name_task: bool = False
    name_dataset: bool = False
    max_per_dataset: int = 10_000
    aux_share: float = 0.3
    fix_none: bool = False

    name: ClassVar[str] = "instructuie"
    tasks: ClassVar[tuple[str, ...]] = TASKS
    recipe: ClassVar[dict[str, Any]] = {"max_subtokens": 768}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("wording", ("code", "paper"))
        self._check("strategy", ("single", "multiple"))
        unknown = [task for task in self.used if task not in TASKS]
        if unknown:
            raise ValueError(
                f"instructuie: use names unknown tasks {unknown}; choose of {', '.join(TASKS)}"
            )

    @property
    def used(self) -> tuple[str, ...]:
        """The tasks of `use`."""
        return tuple(name.strip() for name in self.use.split(","))

    def decoding(self) -> Decoding:
        """Greedy; 50 new tokens as released, which cut long answers, else 256."""
        return Decoding(max_new_tokens=50 if self.mode == "official" else 256)

    def for_folder(self, task: str) -> System | None:
        """With the tasks of `use` that a folder of the released collection has labels for."""
        fitting = [name for name in self.used if name in IN_FOLDER.get(task, TASKS)]
        return replace(self, use=",".join(fitting)) if fitting else None

    def render_all(
        self, examples: Sequence[IEExample], labels: LabelSet, train: bool = False
    ) -> Iterator[Query]:
        """As `render`; for training with the cap per data set and the share of auxiliary tasks."""
        chosen = self.sample(examples) if train else examples
        generator = self.generator("auxiliary")
        for query in super().render_all(chosen, labels, train):
            kept = generator.random() < self.aux_share
            if kept or not train or self.mode == "paper" or query.task not in AUXILIARY:
                yield query

    def sample(self, examples: Sequence[IEExample]) -> list[IEExample]:
        """At most `max_per_dataset` examples of each data set, in their order."""
        generator_of = None if self.mode == "official" else self.generator
        return at_most_per_dataset(examples, self.max_per_dataset, generator_of)

    def queries(self, example: IEExample, labels: LabelSet, train: bool) -> Iterable[Query]:
        """One query for each used task; for EEA one for each event."""
        named = self._with_natural_names(example, labels)
        for task in self.used:
            if task == "EEA":
                for index, event in enumerate(named.of(Event)):
                    yield self._query(named, labels, task, (event,), f"EEA{index}")
            elif task != "EPR" or named.of(Relation):
                yield self._query(named, labels, task, self._gold(named, task), task)

    def _with_natural_names(self, example: IEExample, labels: LabelSet) -> IEExample:
        def renamed(item: Item) -> Item:
            if isinstance(item, Entity | Relation | Event) and item.type not in NOT_ANNOTATED:
                return replace(item, type=labels.to_natural(item.type))
            return item

        return replace(example, items=tuple(map(renamed, example.items)))

    def _gold(self, example: IEExample, task: str) -> tuple[Item, ...]:
        if task in ("EE", "EET"):
            events = example.of(Event)
            return events if task == "EE" else tuple(replace(e, arguments=()) for e in events)
        if task in ("RE", "EP", "EPR"):
            relations = [r for r in example.of(Relation) if r.type not in NOT_ANNOTATED]
            kept = "" if task == "EP" else None
            return tuple(
                Relation(r.head, r.type if kept is None else "", r.tail) for r in relations
            )
        entities = [
            # The released loader forgets to skip entities without a type here.
            one for one in example.of(Entity)
            if one.type not in NOT_ANNOTATED or (task == "ES" and self.mode == "official")
        ]  # fmt: skip
        return tuple(replace(one, type="") for one in entities) if task == "ES" else tuple(entities)

    def _query(
        self,
        example: IEExample,
        labels: LabelSet,
        task: str,
        gold: tuple[Item, ...],
        suffix: str,
    ) -> Query:
        roles = tuple(dict.fromkeys(role for many in labels.roles.values() for role in many))
        about, options = "", labels.natural_names
        if task == "EEA":
            (event,) = gold
            assert isinstance(event, Event)
            about = event.type
            raw = labels.to_raw(event.type)
            roles = tuple(labels.roles.get(raw or "", roles))
            gold = (Event(event.type, None, event.arguments),) if event.arguments else ()
        target = self._answer(task, gold)
        return Query(
            f"{example.id}#{suffix}",
            example.id,
            task,
            example.text,
            options,
            single_turn(self._prompt(example, task, options, gold, about, roles), target),
            gold,
            example.words,
            example.dataset,
            about,
            roles,
            self._ground_truth(example, task, target),
        )

    def _prompt(
        self,
        example: IEExample,
        task: str,
        options: Sequence[str],
        gold: Sequence[Item],
        about: str,
        roles: Sequence[str],
    ) -> str:
        index = 0
        if self.strategy == "multiple":
            index = self.generator(f"{example.id}/{task}").randrange(len(INSTRUCTIONS[task]))
        wording = instruction(task, index, self.wording == "paper")
        extra = about
        if task == "ET":
            extra = ", ".join(item.text for item in gold if isinstance(item, Entity))
        elif task == "EPR":
            extra = answer([f"{r.head}, {r.tail}" for r in gold if isinstance(r, Relation)])
        fill = released_prompt if self.mode == "official" else prompt
        lines = f"Task:{task}\n" if self.name_task else ""
        lines += f"Dataset:{example.dataset}\n" if self.name_dataset else ""
        return lines + fill(wording, task, options, example.text, extra, roles)

    def _answer(self, task: str, gold: Sequence[Item]) -> str:
        if task == "EE":
            events = [self._released(item) for item in gold if isinstance(item, Event)]
            return events_answer(events, role_first=self.mode == "paper")
        if task == "EEA":
            arguments = [a for item in gold if isinstance(item, Event) for a in item.arguments]
            return answer(f"{one.text}: {one.role}" for one in arguments)
        if task == "ES":
            return answer((item.text for item in gold if isinstance(item, Entity)), ", ")
        return answer(self._piece(item) for item in gold)

    def _piece(self, item: Item) -> str:
        if isinstance(item, Entity):
            return f"{item.type}: {item.text}"
        if isinstance(item, Event):
            event = self._released(item)
            return f"{event.type}: {event.trigger}"
        assert isinstance(item, Relation)
        pair = f"{item.head}, {item.tail}"
        return f"{item.type}: {pair}" if item.type else pair

    def _released(self, event: Event) -> Event:
        if self.mode == "paper":
            return event
        trigger = (event.trigger or "").replace("'", APOSTROPHE)
        return replace(event, type=event.type.replace("'", APOSTROPHE), trigger=trigger)

    def _ground_truth(self, example: IEExample, task: str, target: str) -> str:
        """The released loader keeps pairs without a relation in the truth, not in the target."""
        absent = [r for r in example.of(Relation) if r.type in NOT_ANNOTATED]
        if task != "RE" or not absent:
            return target
        pieces = [] if target == NONE else [target.strip()]
        return answer([*pieces, *(f"NA: {one.head}, {one.tail}" for one in absent)])

    def parse(self, output: str, query: Query) -> Parsed:
        """Items of the query's task, with labels that are among its options."""
        return parse_answer(output, query, role_first=self.mode == "paper")

    def evaluate(self, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        """Scores by task; `f1` is that of the first.

        Mode "paper": micro F1 over exact items, for EE over triggers and over arguments. Mode
        "official": the mean over data sets, each with an audit of its predictions.
        """
        by_task: dict[str, list[tuple[Query, str]]] = {}
        for query, output in pairs:
            by_task.setdefault(query.task, []).append((query, output))
        if self.mode == "official" or self.fix_none:
            scores = {task: self._as_released(task, found) for task, found in by_task.items()}
        else:
            scores = {task: self._exact(task, found) for task, found in by_task.items()}
        first = next(iter(scores.values()), {})
        return {"f1": first.get("f1", first.get("accuracy", 0.0)), "tasks": scores}

    def _as_released(self, task: str, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        by_dataset: dict[str, list[tuple[Query, str]]] = {}
        for query, output in pairs:
            by_dataset.setdefault(query.dataset, []).append((query, output))
        scores = {name: self._one_released(task, found) for name, found in by_dataset.items()}
        if len(scores) == 1:
            return next(iter(scores.values()))
        key = "f1" if all("f1" in one for one in scores.values()) else "accuracy"
        return {key: official.report(scores), "datasets": scores}

    def _one_released(self, task: str, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        compared = [(query.ground_truth or query.answer, output) for query, output in pairs]
        audit = official.audit(
            task,
            compared,
            [query.text for query, _ in pairs],
            [query.labels for query, _ in pairs],
        )
        return {**official.evaluate(task, compared, self.fix_none), "audit": audit}

    def _exact(self, task: str, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        metric, arguments = MicroF1(), MicroF1()
        for query, output in pairs:
            found = self.parse(output, query).items
            if task not in ("EE", "EEA"):
                metric.update(query.items, found)
                continue
            metric.update(map(_trigger, query.items), map(_trigger, found))
            arguments.update(_arguments(query.items), _arguments(found))
        if task == "EEA":
            return arguments.compute()
        return {**metric.compute(), **({"arguments": arguments.compute()} if task == "EE" else {})}

    def grammar(self, query: Query) -> Grammar:
        """None, or items with mentions of the sentence that hold no separator."""
        return grammar_of(query, role_first=self.mode == "paper")


def _trigger(item: Item) -> tuple[str, str | None]:
    assert isinstance(item, Event)
    return item.type, item.trigger


def _arguments(items: Iterable[Item]) -> list[tuple[str, str, str]]:
    events = [item for item in items if isinstance(item, Event)]
    return [(event.type, one.role, one.text) for event in events for one in event.arguments]
