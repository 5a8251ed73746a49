"""`lookright`: generated sentences whose causal ceiling is a theorem, not an estimate.

Half of the entities are typed by words to their left, the others only by words to their right,
and names say nothing. Right-decided sentences come as twins: one sentence per label, identical
up to and including the entity. No causal labeler can tell twins apart when it must tag the
entity, so `causal_ceiling` bounds every one of them on exactly these sentences.

The one thing that is easy to get wrong: `random.Random.choice` and `shuffle` may change between
versions of Python, only `random()` is promised not to. Everything here is drawn from `random()`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from unmask.data.sentence import SPLITS, Corpus, Sentence

LABELS = ("LOC", "ORG", "PER")

# fmt: off
LEFT_NOUNS = {
    "LOC": ("village", "town", "river", "island", "valley", "province", "harbour", "suburb"),
    "ORG": ("company", "bank", "brewery", "airline", "publisher", "insurer", "agency", "charity"),
    "PER": ("singer", "doctor", "painter", "teacher", "farmer", "nurse", "lawyer", "sailor"),
}
"""Nouns that stand before a name and give its label: "the singer Mira Toldek"."""

LEFT_PHRASES = {
    "LOC": ("they spent the summer in", "a new road leads to", "the ship sailed towards",
            "it rained all night over", "the train never stops at", "we rented a cottage near"),
    "ORG": ("they bought ten shares of", "the court fined", "she became the chairman of",
            "the union sued", "he applied for a job at", "investors lost trust in"),
    "PER": ("we shook hands with", "he is the younger brother of", "she fell in love with",
            "the police arrested", "the jury gave a medal to", "they went dancing with"),
}
"""Beginnings of a sentence that end just before a name and give its label."""

RIGHT_PHRASES = {
    "LOC": ("lies near the sea", "borders a dark forest", "has narrow streets",
            "was flooded again", "is full of tourists", "stands on a steep hill",
            "has mild winters", "overlooks the bay", "needs a second bridge",
            "had an earthquake", "can be reached by ferry", "has three thousand inhabitants"),
    "ORG": ("raised its prices", "dismissed forty workers", "sold its shares", "went bankrupt",
            "pays low wages", "launched a cheap product", "merged with a rival",
            "doubled its profits", "signed the contract", "hired more managers",
            "lost its customers", "reported high losses"),
    "PER": ("laughed out loud", "sneezed twice", "fell asleep", "married last spring",
            "learned to swim", "sang an old song", "forgot the keys", "wore a red coat",
            "cried with joy", "told another joke", "drank cold tea", "shrugged and nodded"),
}
"""What is said of a name and gives its label: "Mira Toldek sneezed twice"."""

OPENINGS = (
    "yesterday", "last week", "we heard that", "as you know", "people say that", "it seems that",
    "in the meantime", "nobody knew why", "the paper wrote that", "for some reason", "this year",
    "once again", "it is true that", "on {day}", "since {day}", "many still remember how",
    "the letter said that", "at that time",
)
"""Beginnings that say nothing about the label of what follows."""

PAUSES = ("", "", "", "", "of course", "as expected", "once more", "it seems", "also")
"""What may stand between a name and what is said of it; often nothing."""

PREDICATES = (
    "was mentioned in the report", "came up again", "made the news", "was a surprise to us",
    "is on the list", "was not forgotten", "appears on page two", "remains a mystery",
    "was on television", "is often praised",
)
"""What can be said of anything."""

LINKS = ("was mentioned together with", "was compared to", "has little in common with")
"""What joins two names and says nothing about either."""

ENDINGS = ("", "", "", "on {day}", "as we know", "for the first time", "this time")
"""Ends of sentences that say nothing about any label."""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""Capitalised words that are no entity."""

ONSETS = ("b", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z",
          "br", "dr", "gr", "kl", "tr")
VOWELS = ("a", "e", "i", "o", "u")
FIRST_ENDINGS = ("la", "ra", "na", "mo", "ri", "lo", "ta", "ne", "vi", "do")
LAST_ENDINGS = ("dek", "mann", "sen", "witz", "berg", "vic", "stad", "grun", "fels", "horn")
# fmt: on
NAMES_PER_POOL = 150
MAX_ATTEMPTS = 1000

Drawn = TypeVar("Drawn")

Text = tuple[tuple[str, ...], tuple[str, ...]]
"""Words and their IOB2 tags."""


def generate(
    seed: int = 0,
    num_train: int = 1200,
    num_validation: int = 240,
    num_test: int = 240,
    right_fraction: float = 0.5,
) -> Corpus:
    """Three splits of generated sentences, with as many entities as sentences in each.

    Of n sentences, the multiple of 3 nearest to `right_fraction` * n are right-decided twins
    with one entity each. Of the others, one in eight has two entities and as many have none.
    Splits share no sentence, and a third of the names that validation and test draw from are
    unseen in training. With the default half, the causal ceiling is 2/3 on every split.

    Raises:
        ValueError: for a split of fewer than 3 sentences or more than the templates can tell
            apart, or a `right_fraction` outside [0, 1].
    """
    if not 0 <= right_fraction <= 1:
        raise ValueError(f"right_fraction must be between 0 and 1, got {right_fraction}")
    sizes = dict(zip(SPLITS, (num_train, num_validation, num_test), strict=True))
    for split, size in sizes.items():
        if size < len(LABELS):
            raise ValueError(
                f"num_{split} must be at least {len(LABELS)}, one sentence per label, got {size}"
            )
    writer = Writer(random.Random(seed))
    splits: dict[str, tuple[Sentence, ...]] = {}
    for split, size in sizes.items():
        num_names = NAMES_PER_POOL * 2 // 3 if split == "train" else NAMES_PER_POOL
        splits[split] = tuple(
            Sentence(f"lookright-{split}-{number}", words, tags)
            for number, (words, tags) in enumerate(writer.write(size, right_fraction, num_names))
        )
    ceilings = ", ".join(f"{causal_ceiling(splits[split]):.3f} on {split}" for split in SPLITS)
    return Corpus(
        name="lookright",
        labels=LABELS,
        licence="Apache-2.0",
        notes=(
            f"generated with seed {seed}: {right_fraction:.0%} of the entities have a label that "
            "only words to their right decide",
            f"no causal labeler can reach a strict micro F1 above {ceilings}",
        ),
        **splits,
    )


def causal_ceiling(sentences: Iterable[Sentence]) -> float:
    """The best strict micro F1 that a deterministic causal labeler can reach on `sentences`.

    A causal labeler's tag is a function of the words up to and including the tagged one. In
    strict IOB2 the B- tag at the first word of a span fixes its label, and nothing to the right
    can take a begun span back. So at every distinct prefix p, shared by n_p sentences, there
    are two sensible choices: no B- tag, or the one that is right most often, which adds n_p
    predicted spans of which t_p are correct (t_p: how often the most frequent gold label begins
    there). Ends of spans are granted as perfect. With P the prefixes chosen and E gold entities

        F1 = 2 * sum_P(t_p) / (sum_P(n_p) + E).

    A best P holds the p with 2 * t_p > F1 * n_p, so it is a cut in the order of falling
    t_p / n_p, and trying all cuts finds it.

    In `lookright`, L left-decided entities have t/n = 1 and G groups of K twins have t/n = 1/K,
    so with g of the groups predicted F1(g) = 2 (L + g) / (2 L + g K + G K). The sign of its
    derivative does not depend on g, hence the best g is 0 or G:

        ceiling = max(2 L / (2 L + G K), (L + G) / (L + G K)).

    For K = 3 and L = G K both are 2/3.

    Raises:
        ValueError: when no sentence has an entity.
    """
    sharing: Counter[tuple[str, ...]] = Counter()
    beginning: dict[tuple[str, ...], Counter[str]] = {}
    for sentence in sentences:
        for end, tag in enumerate(sentence.tags, start=1):
            prefix = sentence.words[:end]
            sharing[prefix] += 1
            if tag.startswith("B-"):
                beginning.setdefault(prefix, Counter())[tag[2:]] += 1
    if not beginning:
        raise ValueError("the causal ceiling is undefined: no sentence has an entity (no B- tag)")
    choices = [(max(labels.values()), sharing[prefix]) for prefix, labels in beginning.items()]
    choices.sort(key=lambda choice: choice[0] / choice[1], reverse=True)
    num_gold = sum(labels.total() for labels in beginning.values())
    best, correct, predicted = 0.0, 0, 0
    for most_frequent, num_sharing in choices:
        correct += most_frequent
        predicted += num_sharing
        best = max(best, 2 * correct / (predicted + num_gold))
    return best


class Writer:
    """Writes sentences from one random stream and never the same one twice."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.first_names = self._invent_names(FIRST_ENDINGS)
        self.last_names = self._invent_names(LAST_ENDINGS)
        self._used: set[tuple[str, ...]] = set()

    def write(
        self, num_sentences: int, right_fraction: float, num_names: int = NAMES_PER_POOL
    ) -> list[Text]:
        """`num_sentences` shuffled texts that use the first `num_names` of each pool of names."""
        num_labels = len(LABELS)
        num_groups = min(
            int(num_sentences * right_fraction / num_labels + 0.5), num_sentences // num_labels
        )
        texts = [twin for _ in range(num_groups) for twin in self.twins(num_names)]
        num_left = num_sentences - len(texts)
        # As many texts with two entities as with none: entities stay as many as sentences.
        num_pairs = num_left // 8
        for number in range(num_left):
            if number < num_pairs:
                write = partial(self.pair, num_names)
            elif number < 2 * num_pairs:
                write = self.without_entity
            else:
                write = partial(self.left_decided, num_names)
            texts.append(self._new(write, key=_words))
        return sorted(texts, key=lambda _: self.rng.random())

    def twins(self, num_names: int) -> list[Text]:
        """One text per label, equal up to and including the entity.

        No two groups begin alike: not even the first word of the entity, where its label is
        due, is reached by the same words.
        """
        opening, name = self._new(
            lambda: (self.fill(OPENINGS), self.name(num_names)),
            key=lambda drawn: (*drawn[0], drawn[1][0]),
        )
        return [
            self._new(partial(self.right_decided, opening, name, label), key=_words)
            for label in LABELS
        ]

    def right_decided(self, opening: Sequence[str], name: Sequence[str], label: str) -> Text:
        """A text that gives the label of `name` only after it."""
        said = self.fill(PAUSES, RIGHT_PHRASES[label], ENDINGS)
        return _tag((None, opening), (label, name), (None, said))

    def left_decided(self, num_names: int) -> Text:
        """A text that gives the label of its name before it."""
        label, name = self.pick(LABELS), self.name(num_names)
        if self.rng.random() < 0.5:
            before, after = self.fill(LEFT_PHRASES[label]), self.fill(ENDINGS)
        else:
            before = [*self.fill(OPENINGS), "the", self.pick(LEFT_NOUNS[label])]
            after = self.fill(PAUSES, PREDICATES, ENDINGS)
        return _tag((None, before), (label, name), (None, after))

    def pair(self, num_names: int) -> Text:
        """A text with two left-decided names."""
        first, second = self.pick(LABELS), self.pick(LABELS)
        return _tag(
            (None, [*self.fill(OPENINGS), "the", self.pick(LEFT_NOUNS[first])]),
            (first, self.name(num_names)),
            (None, [*self.fill(LINKS), "the", self.pick(LEFT_NOUNS[second])]),
            (second, self.name(num_names)),
        )

    def without_entity(self) -> Text:
        """A text with words that decide labels, but no name."""
        label = self.pick(LABELS)
        noun = self.pick(LEFT_NOUNS[label])
        said = self.fill(PAUSES, RIGHT_PHRASES[label], ENDINGS)
        return _tag((None, [*self.fill(OPENINGS), "the", noun, *said]))

    def name(self, num_names: int = NAMES_PER_POOL) -> list[str]:
        """A first name, or a first and a last name, from the first `num_names` of each pool."""
        first, last = (
            self.pick(self.first_names[:num_names]),
            self.pick(self.last_names[:num_names]),
        )
        return [first] if self.rng.random() < 0.5 else [first, last]

    def pick(self, options: Sequence[str]) -> str:
        """One of `options`, the same on every version of Python."""
        return options[int(self.rng.random() * len(options))]

    def fill(self, *slots: Sequence[str]) -> list[str]:
        """Words: one option of each slot, in order."""
        phrases = [self.pick(options).replace("{day}", self.pick(DAYS)) for options in slots]
        return " ".join(phrases).split()

    def _new(self, draw: Callable[[], Drawn], key: Callable[[Drawn], tuple[str, ...]]) -> Drawn:
        """Draw until the words that `key` gives have not been used before, and mark them used."""
        for _ in range(MAX_ATTEMPTS):
            drawn = draw()
            words = key(drawn)
            if words not in self._used:
                self._used.add(words)
                return drawn
        raise ValueError(
            f"{MAX_ATTEMPTS} draws in a row gave nothing new after {len(self._used)} texts; "
            "ask lookright for fewer sentences"
        )

    def _invent_names(self, endings: Sequence[str]) -> list[str]:
        names: dict[str, None] = {}
        while len(names) < NAMES_PER_POOL:
            syllables = self.pick(ONSETS), self.pick(VOWELS), self.pick(endings)
            names["".join(syllables).capitalize()] = None
        return list(names)


def _words(text: Text) -> tuple[str, ...]:
    return text[0]


def _tag(*parts: tuple[str | None, Sequence[str]]) -> Text:
    """Join (label or None, words) parts into words and their IOB2 tags."""
    words: list[str] = []
    tags: list[str] = []
    for label, part in parts:
        words.extend(part)
        inside = ["O"] * len(part) if label is None else [f"I-{label}"] * len(part)
        tags.extend(inside if label is None else [f"B-{label}", *inside[1:]])
    return tuple(words), tuple(tags)
