"""The instruction-tuned baseline of Dukić and Šnajder (ACL Findings 2024, section 4.1 and A.3).

The model writes `span:type;span:type` for a sentence, and a greedy walk from left to right turns
that into IOB2. The one thing that is easy to get wrong: what cannot be read or placed is O, and
in the released code one bad chunk makes the whole sentence O.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import regex

from unmask.analysis.scoring import score
from unmask.data.sentence import Span
from unmask.data.tags import tags_from_spans
from unmask.instruct.examples import Entity, IEExample
from unmask.instruct.label_names import PUBLISHED_ORDERS
from unmask.instruct.labels import LabelSet
from unmask.instruct.parsing import Parsed, malformed, parsed
from unmask.instruct.prompts import Query, single_turn
from unmask.instruct.span_grammar import mentions_of
from unmask.instruct.system import Decoding, Grammar, System
from unmask.recipe import Recipe

INSTRUCTIONS: dict[str, str] = {
    "ner": "please extract named entities and their type from the input sentence, "
    "all entity types are in options",
    "absa": "please extract aspect terms and their polarity from the input sentence, "
    "all polarity types are in options",
    "events": "please extract events and their types from the input sentence, "
    "all event types are in options",
    "chunking": "please extract chunks and their type from the input sentence, "
    "all chunk types are in options",
}


AUTO = "auto"
UNREADABLE_LABEL = "?"
"""Tag label for a type that no tag can carry."""


@dataclass(frozen=True)
class InstructionBaseline(System):
    """See the module.

    `instruction` is one of INSTRUCTIONS, or "auto": that of the published task whose labels these
    are, else "ner". `loss_on` is "all" (as released: every token, the prompt too) or "response".
    `robust` reads what the released mapper refuses: bad chunks are skipped, types stripped, unknown
    types dropped. In mode "official" packing cuts through examples, and answers are sampled.
    """

    instruction: str = "auto"
    loss_on: str = "all"
    robust: bool = False

    name: ClassVar[str] = "it"
    tasks: ClassVar[tuple[str, ...]] = tuple(INSTRUCTIONS)
    recipe: ClassVar[dict[str, Any]] = {"max_subtokens": 1024}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check("instruction", (AUTO, *self.tasks))
        self._check("loss_on", ("all", "response"))

    def decoding(self) -> Decoding:
        """Greedy; in mode "official" sampled, as the defaults of Llama-2 say."""
        if self.mode == "official":
            return Decoding(1024, sample=True, temperature=0.6, top_p=0.9, max_length=1024)
        return Decoding(max_new_tokens=256, stop=("\n### ", "\n"))

    def packing(self) -> str:
        """The released code cuts one stream of tokens into rows."""
        return "concatenate" if self.mode == "official" else "separate"

    def schedule_length(self, num_texts: int, recipe: Recipe, num_steps: int) -> int:
        """In mode "official" counted in texts that are not packed, so the rate hardly falls.

        That count is of micro-batches already, so a recipe's factor for them adds nothing to it.
        """
        if self.mode == "official":
            return (num_texts // recipe.batch_size + 1) * recipe.epochs
        return super().schedule_length(num_texts, recipe, num_steps)

    def in_loss(self, query: Query) -> tuple[bool, ...]:
        """Every segment with loss_on="all"."""
        return tuple(part.trained or self.loss_on == "all" for part in query.segments)

    def queries(self, example: IEExample, labels: LabelSet, train: bool) -> Iterable[Query]:
        """One query a sentence."""
        if example.words is None:
            raise ValueError(f"{example.id}: the baseline labels words, and this text has none")
        items = tuple(
            Entity(entity.text, labels.to_natural(entity.type), entity.start, entity.end)
            for entity in sorted(example.of(Entity), key=lambda one: one.start or 0)
        )
        options = tuple(labels.to_natural(raw) for raw in in_published_order(labels.names))
        task = published_task(labels.names) if self.instruction == AUTO else self.instruction
        prompt = render_prompt(INSTRUCTIONS[task or "ner"], options, example.text)
        yield Query(
            f"{example.id}#it",
            example.id,
            task or "ner",
            example.text,
            options,
            single_turn(prompt, render_response(items) + "\n"),
            items,
            example.words,
            example.dataset,
        )

    def parse(self, output: str, query: Query) -> Parsed:
        """Items in the order answered; texts and types as the released mapper would see them."""
        if not output.strip():
            return parsed([])
        items: list[Entity] = []
        errors: list[str] = []
        options = {label.casefold(): label for label in query.labels}
        for chunk in map(str.strip, output.split(";")):
            text, colon, kind = chunk.rpartition(":")
            if not colon:
                errors.append(f"chunk without a colon: {chunk!r}")
            elif not self.robust:
                items.append(Entity(text, kind))
            elif kind.strip().casefold() not in options:
                errors.append(f"type that is not an option: {kind!r}")
            else:
                items.append(Entity(text.strip(), options[kind.strip().casefold()]))
        if errors and not self.robust:
            return malformed(errors[0])
        return parsed(items, errors) if items or not errors else malformed(errors[0])

    def collision(self, query: Query) -> str:
        """Besides the text also the positions must come back: the first free place is taken."""
        found = super().collision(query)
        if found or query.words is None:
            return found
        placed = place_greedily(query.words, self.parse(query.answer, query).items)
        gold = {
            Span(i.start or 0, i.end or 0, i.type) for i in query.items if isinstance(i, Entity)
        }
        return "" if set(placed) == gold else "a mention is placed at an earlier occurrence"

    def tags(
        self, words: Sequence[str], answered: Sequence[tuple[Query, str]], labels: LabelSet
    ) -> tuple[str, ...]:
        """Greedily placed spans; a type outside the options is kept, a false alarm when scored."""
        items = [item for query, output in answered for item in self.parse(output, query).items]
        spans = [
            Span(span.start, span.end, self._raw_label(span.label, labels))
            for span in place_greedily(words, items)
        ]
        return tags_from_spans(spans, len(words))

    def _raw_label(self, kind: str, labels: LabelSet) -> str:
        # The released code compares types as they are, so " person" is not "person".
        raw = labels.to_raw(kind) if self.robust or kind in labels.natural_names else None
        return raw or kind.strip("-") or UNREADABLE_LABEL

    def evaluate(self, pairs: Sequence[tuple[Query, str]]) -> dict[str, Any]:
        """Strict micro F1 by seqeval, scheme IOB2, over natural names."""
        gold, predicted = [], []
        for query, output in pairs:
            words = query.words or ()
            labels = LabelSet(query.labels, {name: name for name in query.labels})
            gold.append(tags_from_spans(_gold_spans(query), len(words)))
            predicted.append(self.tags(words, [(query, output)], labels))
        return score(gold, predicted)

    def grammar(self, query: Query) -> Grammar:
        """Nothing, or mentions of the sentence, each with an option."""
        types = "|".join(regex.escape(label) for label in query.labels)
        mentions = mentions_of(query.words or (), ";:\n") or r"[^;:\s][^;:\n]*"
        item = rf"(?:{mentions}):(?:{types})"
        return Grammar(rf" ?(?:(?P<item>{item})(?:;(?&item))*)?\n?")


def render_prompt(instruction: str, options: Sequence[str], sentence: str) -> str:
    """The prompt, byte for byte as published."""
    return (
        f"### Instruction: \n{instruction} \n\n### Options:\n{', '.join(options)}\n\n"
        f"### Sentence:\n{sentence}\n\n### Response:\n"
    )


def render_response(items: Iterable[Entity]) -> str:
    """`span:type;span:type`, empty without items.

    >>> render_response([Entity("EU", "organization"), Entity("German", "miscellaneous")])
    'EU:organization;German:miscellaneous'
    """
    return ";".join(f"{item.text}:{item.type}" for item in items)


def in_published_order(names: Sequence[str]) -> tuple[str, ...]:
    """Label names in the order of the published prompts where that is known, else unchanged."""
    task = published_task(names)
    return tuple(names) if task is None else tuple(n for n in PUBLISHED_ORDERS[task] if n in names)


def published_task(names: Sequence[str]) -> str | None:
    """The name of the instruction that was published for these labels, or for more than these.

    >>> published_task(["negative", "positive"]), published_task(["drug"])
    ('absa', None)
    """
    fitting = (task for task, known in PUBLISHED_ORDERS.items() if set(names) <= set(known))
    return next(fitting, None)


def _gold_spans(query: Query) -> list[Span]:
    entities = [item for item in query.items if isinstance(item, Entity)]
    return [Span(one.start or 0, one.end or 0, one.type) for one in entities]


def place_greedily(words: Sequence[str], items: Iterable[Any]) -> tuple[Span, ...]:
    """Each item at the first place from the end of the one before; skipped when there is none.

    Words are compared exactly, letter for letter, as in the released mapper.

    >>> place_greedily(("EU", "rejects", "EU"), [Entity("EU", "x"), Entity("EU", "x")])
    (Span(start=0, end=1, label='x'), Span(start=2, end=3, label='x'))
    """
    sentence, cursor, spans = list(words), 0, []
    for item in items:
        parts = [part.strip() for part in item.text.split(" ")]
        for start in range(cursor, len(sentence) - len(parts) + 1):
            if sentence[start : start + len(parts)] == parts:
                cursor = start + len(parts)
                spans.append(Span(start, cursor, item.type))
                break
    return tuple(spans)
