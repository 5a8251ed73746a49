"""System: what every instruction-tuned extraction system has to say about itself.

A system turns an example into queries and a model's answer into items. Everything else (loss
masks, training, generation, accounting, tags, reports) is shared and knows only this class.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from unmask.instruct.examples import Entity, IEExample
from unmask.instruct.grounding import NEXT, ground_tags
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import Parsed
from unmask.instruct.prompts import Query
from unmask.recipe import Recipe

MODES = ("paper", "official")
COLLISIONS = ("keep", "drop", "raise")


@dataclass(frozen=True)
class Decoding:
    """How answers are generated. Without `sample`, greedily, or by beams when `num_beams` > 1."""

    max_new_tokens: int = 256
    sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    num_beams: int = 1
    max_length: int | None = None
    """Tokens of prompt and answer together, where a system counts so."""
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    """Generation ends before any of these; the end-of-text token always ends it."""


@dataclass(frozen=True)
class Grammar:
    """The well-formed answers to a query, for constrained decoding.

    `pattern` is a regular expression (of the `regex` module) for whole answers; `closers` are
    endings to try, shortest first, on an answer that ran out of tokens.
    """

    pattern: str
    closers: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class System(ABC):
    """One published system; its settings are the fields of the subclass.

    `mode` chooses between what the paper says and what the released code does, wherever they
    differ. `collisions` says what to do with an answer that does not read back as its gold:
    keep (it is marked), drop the query, or raise.
    """

    mode: str = "paper"
    collisions: str = "keep"
    seed: int = 0

    name: ClassVar[str]
    tasks: ClassVar[tuple[str, ...]] = ("ner",)
    occurrences: ClassVar[str] = NEXT
    recipe: ClassVar[Mapping[str, Any]] = {}
    """Fields of `unmask.recipe.Recipe` that the system trains with instead of the preset's."""

    def __post_init__(self) -> None:
        self._check("mode", MODES)
        self._check("collisions", COLLISIONS)

    def _check(self, field: str, allowed: Sequence[str]) -> None:
        if getattr(self, field) not in allowed:
            raise ValueError(
                f"{self.name}: {field} must be one of {', '.join(allowed)}, "
                f"got {getattr(self, field)!r}"
            )

    @abstractmethod
    def queries(self, example: IEExample, labels: LabelSet, train: bool) -> Iterable[Query]:
        """The queries about one example; `train` when they are for training."""

    @abstractmethod
    def parse(self, output: str, query: Query) -> Parsed:
        """What an answer says. Total: never raises, whatever the output."""

    @abstractmethod
    def evaluate(self, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        """The system's own metric, in its `mode`, over queries and outputs of one data set.

        Has at least `f1` or `accuracy`.
        """

    def decoding(self) -> Decoding:
        """How answers are generated, unless the user says otherwise."""
        return Decoding()

    def packing(self) -> str:
        """How training texts share a row, a key of `packing.PACKINGS`."""
        return "separate"

    def schedule_length(self, num_texts: int, recipe: Recipe, num_steps: int) -> int:
        """Optimizer steps after which the learning rate would reach zero."""
        return round(num_steps * recipe.cosine_steps_factor)

    def in_loss(self, query: Query) -> tuple[bool, ...]:
        """For each segment of a training query whether it is trained on."""
        return tuple(segment.trained for segment in query.segments)

    def grammar(self, query: Query) -> Grammar | None:
        """The well-formed answers; None when the system offers no constrained decoding."""
        return None

    def for_folder(self, task: str) -> System | None:
        """The system as it asks about a data set kept under a task; None when it does not ask."""
        return self

    def prepared(self, examples: Sequence[IEExample], labels: LabelSet) -> System:
        """The system with what it takes from the training examples before it asks anything."""
        return self

    def render(self, example: IEExample, labels: LabelSet, train: bool = False) -> list[Query]:
        """`queries`, each proven to read back as its gold, or dealt with as `collisions` says.

        Raises:
            ValueError: with collisions="raise", naming the example and the gold that is lost.
        """
        queries = self.queries(example, labels, train)
        return [proven for query in queries for proven in self.proven(query)]

    def proven(self, query: Query) -> list[Query]:
        """The query, marked when its answer does not read back; none when it is dropped."""
        reason = self.collision(query)
        if not reason:
            return [query]
        if self.collisions == "raise":
            raise ValueError(f"{query.id}: {reason}; collisions='keep' or 'drop' go on")
        return [replace(query, collision=reason)] if self.collisions == "keep" else []

    def render_all(
        self, examples: Sequence[IEExample], labels: LabelSet, train: bool = False
    ) -> Iterator[Query]:
        """The queries of a whole data set. Systems that sample over a data set override this."""
        for example in examples:
            yield from self.render(example, labels, train)

    def pretraining(self, labelled: Mapping[str, Sequence[IEExample]]) -> list[Query]:
        """Training queries of a first stage on texts with open labels, by task.

        Raises:
            ValueError: where the system has no such stage.
        """
        raise ValueError(
            f"system {self.name} has no stage of training on open labels; give --system seqgpt"
        )

    def collision(self, query: Query) -> str:
        """Why the gold answer does not read back as the gold items; empty when it does."""
        found = self.parse(query.answer, query).items
        if found == query.items:
            return ""
        if sorted(map(repr, map(_bare, found))) == sorted(map(repr, map(_bare, query.items))):
            return ""
        return f"the answer {query.answer!r} reads back as {len(found)} of {len(query.items)} items"

    def statistics(self, queries: Sequence[Query]) -> dict[str, Any]:
        """Counts of what was built, as JSON values."""
        return {
            "num_queries": len(queries),
            "num_without_items": sum(not query.items for query in queries),
            "num_collisions": sum(bool(query.collision) for query in queries),
            "tasks": dict(Counter(query.task for query in queries).most_common()),
        }

    def tags(
        self, words: Sequence[str], answered: Sequence[tuple[Query, str]], labels: LabelSet
    ) -> tuple[str, ...]:
        """IOB2 tags of one sentence, in raw labels, from all outputs about it."""
        entities = [
            Entity(item.text, raw)
            for query, output in answered
            for item in self.parse(output, query).items
            if isinstance(item, Entity) and (raw := labels.to_raw(item.type)) is not None
        ]
        return ground_tags(words, entities, self.occurrences)

    def generator(self, key: str) -> random.Random:
        """A generator for one example or purpose, the same whatever was drawn before."""
        return random.Random(f"{self.seed}/{self.name}/{key}")


def _bare(item: Any) -> Any:
    """The item without what is not compared."""
    return replace(item, start=None, end=None) if isinstance(item, Entity) else item
