"""UniversalNER (Zhou et al., 2308.03279): one entity type a question, a JSON list as the answer.

In training a passage is one conversation with a question for each type; in evaluation each
(passage, type) is a conversation of its own. The one thing that is easy to get wrong: the prompt
ends in "ASSISTANT:" without a space, and the space belongs to the answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from unmask.instruct.examples import Entity, IEExample, at_most_per_dataset
from unmask.instruct.grounding import ALL
from unmask.instruct.json_grammar import STRING, list_of, lists_by_key
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import Parsed, malformed, parsed
from unmask.instruct.prompts import Query, Segment
from unmask.instruct.system import Decoding, Grammar, System
from unmask.instruct.uniner_answers import (
    normalise,
    read_as_released,
    read_object,
    read_patiently,
)
from unmask.instruct.uniner_metrics import partial, strict
from unmask.instruct.uniner_negatives import STRATEGIES, NegativeSampler
from unmask.instruct.uniner_teacher import NO_TYPES

SYSTEM_MESSAGE = "A virtual assistant answers questions from a user based on the provided text."
ACKNOWLEDGEMENT = "I've read this text."
VARIANTS = ("type", "definition", "all-in-one")


@dataclass(frozen=True)
class UniNER(System):
    """See the module.

    `variant` asks for a type by its name or its definition, or for all types at once (whose
    template is ours: none was published). `negatives` is one of none, uniform, frequency; a
    passage gets `neg_per_pos` absent types for each present one, or `neg_fixed` when that is not
    negative. `dataset_field` names the data set before the text, as supervised UniNER does.
    `max_per_dataset` bounds what is trained on, 0 does not; supervised UniNER took 10,000. Without
    `catch_all` nobody asks about labels such as "miscellaneous", as the paper wants it.
    `loss_on_ack` trains "I've read this text." too: None does in mode "official" only.
    """

    variant: str = "type"
    negatives: str = "frequency"
    neg_per_pos: float = 1.0
    neg_fixed: int = -1
    dataset_field: bool = False
    max_per_dataset: int = 0
    catch_all: bool = True
    loss_on_ack: bool | None = None

    name: ClassVar[str] = "uniner"
    occurrences: ClassVar[str] = ALL
    recipe: ClassVar[dict[str, Any]] = {"max_subtokens": 1024, "epochs": 3}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("variant", VARIANTS)
        self._check("negatives", STRATEGIES)

    def decoding(self) -> Decoding:
        """Greedy, 256 new tokens."""
        return Decoding(max_new_tokens=256)

    def queries(self, example: IEExample, labels: LabelSet, train: bool) -> Iterable[Query]:
        """One conversation for training; for evaluation one per type."""
        if train:
            counts = Counter(dict.fromkeys(self._asked(labels), 1))
            return self._training_query(example, labels, NegativeSampler(counts, self.negatives))
        gold = self._gold(example, labels)
        if self.variant == "all-in-one":
            return [self._query(example, labels, [self._asked(labels)], gold, "all")]
        return [
            self._query(example, labels, [(name,)], gold, str(index))
            for index, name in enumerate(self._asked(labels))
        ]

    def render_all(
        self, examples: Sequence[IEExample], labels: LabelSet, train: bool = False
    ) -> Iterator[Query]:
        """As `render`, with the frequencies of types taken from all examples."""
        if not train:
            yield from super().render_all(examples, labels)
            return
        if self.max_per_dataset:
            examples = at_most_per_dataset(examples, self.max_per_dataset, self.generator)
        counts = Counter(dict.fromkeys(self._asked(labels), 0))
        for example in examples:
            counts.update(
                name
                for entity in example.of(Entity)
                if self._is_asked(name := labels.to_natural(entity.type))
            )
        sampler = NegativeSampler(counts, self.negatives)
        for example in examples:
            for query in self._training_query(example, labels, sampler):
                yield from self.proven(query)

    def _training_query(
        self, example: IEExample, labels: LabelSet, sampler: NegativeSampler
    ) -> Iterator[Query]:
        gold = self._gold(example, labels)
        generator = self.generator(example.id)
        number = self.neg_fixed if self.neg_fixed >= 0 else round(self.neg_per_pos * len(gold))
        if not gold and self.neg_fixed < 0:
            number = max(1, round(self.neg_per_pos))
        types = [*gold, *sampler.draw(gold, number, generator)]
        generator.shuffle(types)
        if not types:
            return
        turns = [tuple(types)] if self.variant == "all-in-one" else [(name,) for name in types]
        yield self._query(example, labels, turns, gold, "train")

    def _asked(self, labels: LabelSet) -> tuple[str, ...]:
        return tuple(filter(self._is_asked, labels.natural_names))

    def _is_asked(self, name: str) -> bool:
        return self.catch_all or name.casefold() not in NO_TYPES

    def _gold(self, example: IEExample, labels: LabelSet) -> dict[str, list[str]]:
        """Strings by natural type, both in order of first appearance, each once."""
        gold: dict[str, list[str]] = {}
        for entity in example.of(Entity):
            if self._is_asked(name := labels.to_natural(entity.type)):
                gold.setdefault(name, []).append(entity.text)
        return {name: list(dict.fromkeys(texts)) for name, texts in gold.items()}

    def _query(
        self,
        example: IEExample,
        labels: LabelSet,
        turns: Sequence[Sequence[str]],
        gold: dict[str, list[str]],
        suffix: str,
    ) -> Query:
        conversation = []
        for types in turns:
            asked = {name: gold.get(name, []) for name in types}
            single = self.variant != "all-in-one"
            answer = json.dumps(asked[types[0]] if single else asked)
            conversation.append((self._question(types, labels), answer))
        names = tuple(name for types in turns for name in types)
        return Query(
            f"{example.id}#{suffix}",
            example.id,
            "ner",
            example.text,
            names,
            conversation_segments(
                self._passage(example), conversation, self.loss_on_ack or self._as_released_loss()
            ),
            tuple(Entity(text, name) for name in names for text in gold.get(name, [])),
            example.words,
            example.dataset,
            about=names[0] if len(names) == 1 and self.variant != "all-in-one" else "",
        )

    def _as_released_loss(self) -> bool:
        return self.loss_on_ack is None and self.mode == "official"

    def _passage(self, example: IEExample) -> str:
        text = f"Text: {example.text}"
        return f"Dataset: {example.dataset}\n{text}" if self.dataset_field else text

    def _question(self, types: Sequence[str], labels: LabelSet) -> str:
        if self.variant == "all-in-one":
            return f"What describes the following types in the text: {', '.join(types)}?"
        name = types[0]
        if self.variant == "definition":
            raw = labels.to_raw(name)
            name = labels.descriptions.get(raw or "", name)
        return f"What describes {name} in the text?"

    def parse(self, output: str, query: Query) -> Parsed:
        """Entities of the type asked about. Mode "official" reads as the released evaluator."""
        output = output.strip()
        if self.variant == "all-in-one":
            return self._parse_object(output, query)
        if self.mode == "official":
            strings = read_as_released(output)
            errors = []
        else:
            strings, errors = read_patiently(output)
        if strings is None:
            return malformed(errors[0] if errors else "not the expected list: " + output[:40])
        return parsed([Entity(text, query.about) for text in strings], errors)

    def _parse_object(self, output: str, query: Query) -> Parsed:
        answered, errors = read_object(output)
        if answered is None:
            return malformed(errors[0])
        known = {name.casefold(): name for name in query.labels}
        errors += [f"unknown type: {name}" for name in answered if name.casefold() not in known]
        return parsed(
            [
                Entity(text, known[name.casefold()])
                for name, texts in answered.items()
                if name.casefold() in known
                for text in texts
            ],
            errors,
        )

    def collision(self, query: Query) -> str:
        """As for every system; in a conversation each answer must read back."""
        if len(query.segments) == 4:
            return super().collision(query)
        for segment in query.segments[3::2]:
            gold = json.loads(segment.text)
            found = self.parse(segment.text, query).items
            if [item.text for item in found if isinstance(item, Entity)] != gold:
                return (
                    f"the answer {segment.text!r} reads back as {len(found)} of {len(gold)} items"
                )
        return ""

    def evaluate(self, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        """Strict micro F1 over (passage, type, string), and the partial score beside it.

        Mode "official" compares strings normalised.
        """
        prepare = normalise if self.mode == "official" else str
        compared = []
        for query, output in pairs:
            sides = (query.items, self.parse(output, query).items)
            gold, found = (
                [f"{i.type}\t{prepare(i.text)}" for i in side if isinstance(i, Entity)]
                for side in sides
            )
            compared.append((gold, found))
        return {**strict(compared), "partial": partial(compared, _typed_words)}

    def grammar(self, query: Query) -> Grammar:
        """A JSON list of strings, or an object with every type asked about."""
        if self.variant == "all-in-one":
            return lists_by_key([json.dumps(name) for name in query.labels])
        return Grammar(f" ?{list_of(STRING)}", ("", "]", '"]', "[]"))


def conversation_segments(
    passage: str, turns: Iterable[tuple[str, str]], loss_on_ack: bool
) -> tuple[Segment, ...]:
    """The published template; as one string with "</s>" for the end of a turn, its exact bytes."""
    segments = [
        Segment(f"{SYSTEM_MESSAGE} USER: {passage} ASSISTANT:"),
        Segment(f" {ACKNOWLEDGEMENT}", trained=loss_on_ack, ends=True),
    ]
    for question, answer in turns:
        segments.append(Segment(f"USER: {question} ASSISTANT:"))
        segments.append(Segment(f" {answer}", trained=True, ends=True))
    return tuple(segments)


def _typed_words(item: str) -> list[str]:
    """Words with their type, so that only strings of one type can share a word."""
    kind, _, text = item.partition("\t")
    return [f"{kind}\t{word}" for word in text.split()]
