"""`lookright`: generated sentences whose causal ceiling is a theorem, not an estimate.

Half of the entities have a label that words to their left decide, the others one that only
words to their right decide; names say nothing. Right-decided sentences come as twins: one per
label, identical up to and including the entity. No causal labeler can tell twins apart when it
must tag the entity, so `causal_ceiling` bounds every one of them on exactly these sentences.

The one thing that is easy to get wrong: `random.Random.choice` and `shuffle` may change between
versions of Python, only `random()` is promised not to. Everything here is drawn from `random()`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

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
    "LOC": ("lies near the sea", "borders a dark forest", "has narrow streets", "was flooded again",
            "is full of tourists", "stands on a steep hill", "has mild winters", "faces a bay",
            "needs a second bridge", "had an earthquake", "can be reached by ferry", "was rebuilt"),
    "ORG": ("raised its prices", "dismissed forty workers", "sold its shares", "went bankrupt",
            "pays low wages", "launched a product", "merged with a rival", "signed a contract",
            "doubled its profits", "hired more managers", "lost its customers", "cut its losses"),
    "PER": ("laughed out loud", "sneezed twice", "fell asleep", "married last spring",
            "learned to swim", "sang an old song", "forgot the keys", "wore a red coat",
            "cried with joy", "told another joke", "drank cold tea", "shrugged and nodded"),
}
"""What is said of a name and gives its label: "Mira Toldek sneezed twice"."""

OPENINGS = (
    "yesterday", "last week", "we heard that", "as you know", "people say that", "it seems that",
    "in the meantime", "nobody knew why", "the paper wrote that", "for some reason", "this year",
    "once again", "on {day}", "since {day}", "many still remember how", "the letter said that",
)
"""Beginnings that say nothing about the label of what follows."""

PAUSES = ("", "", "", "", "of course", "as expected", "once more", "it seems", "also")
"""What may stand between a name and what is said of it; often nothing."""

PREDICATES = (
    "was mentioned in the report", "came up again", "made the news", "was a surprise to us",
    "is on the list", "was not forgotten", "appears on page two", "is often praised",
)
"""What can be said of anything."""

LINKS = ("was mentioned together with", "was compared to", "has little in common with")
"""What joins two names and says nothing about either."""

ENDINGS = ("", "", "", "on {day}", "as we know", "for the first time", "this time")
"""Ends of sentences that say nothing about any label."""

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""Capitalised words that are no entity."""

ONSETS, VOWELS = "bdfghklmnprstvz", "aeiou"
FIRST_ENDINGS = ("la", "ra", "na", "mo", "ri", "lo", "ta", "ne", "vi", "do")
LAST_ENDINGS = ("dek", "mann", "sen", "witz", "berg", "vic", "stad", "grun", "fels", "horn")
# fmt: on
NAMES_PER_POOL = 150
MAX_ATTEMPTS = 1000

Words = tuple[str, ...]
Text = tuple[Words, Words]
"""Words and their IOB2 tags."""


def generate(
    seed: int = 0,
    num_train: int = 1200,
    num_validation: int = 240,
    num_test: int = 240,
    right_fraction: float = 0.5,
) -> Corpus:
    """Three splits of generated sentences, with as many entities as sentences in each.

    Sentences come in threes, and `right_fraction` of the threes (rounded) are right-decided
    twins with one entity each. Of the others, one in eight has two entities, as many have none.
    Splits share no sentence, and a third of the names that validation and test draw from are
    unseen in training. With the default half, the causal ceiling is 2/3 on every split.

    Raises:
        ValueError: for a split of fewer than 3 sentences or more than the templates can tell
            apart, or a `right_fraction` outside [0, 1].
    """
    if not 0 <= right_fraction <= 1:
        raise ValueError(f"right_fraction must be between 0 and 1, got {right_fraction}")
    sizes = {"train": num_train, "validation": num_validation, "test": num_test}
    writer = Writer(random.Random(seed))
    splits: dict[str, tuple[Sentence, ...]] = {}
    for split, size in sizes.items():
        if size < len(LABELS):
            raise ValueError(
                f"num_{split} must be at least {len(LABELS)}, one sentence per label, got {size}"
            )
        writer.num_names = NAMES_PER_POOL * 2 // 3 if split == "train" else NAMES_PER_POOL
        splits[split] = tuple(
            Sentence(f"lookright-{split}-{number}", words, tags)
            for number, (words, tags) in enumerate(writer.write(size, right_fraction))
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
    sharing: Counter[Words] = Counter()
    beginning: dict[Words, Counter[str]] = {}
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
    """Writes sentences from one random stream and, in `write`, never the same one twice.

    Names are the first `num_names` of each pool; change it to hold names back.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.num_names = NAMES_PER_POOL
        self.first_names = self._invent_names(FIRST_ENDINGS)
        self.last_names = self._invent_names(LAST_ENDINGS)
        self._used: set[Words] = set()

    def write(self, num_sentences: int, right_fraction: float) -> list[Text]:
        """`num_sentences` shuffled texts, about `right_fraction` of them right-decided twins."""
        num_groups = int(num_sentences // len(LABELS) * right_fraction + 0.5)
        texts = [twin for _ in range(num_groups) for twin in self.twins()]
        num_left = num_sentences - len(texts)
        # As many texts with two entities as with none: entities stay as many as sentences.
        num_pairs = num_left // 8
        writers = [self.pair] * num_pairs + [self.without_entity] * num_pairs
        writers += [self.left_decided] * (num_left - len(writers))
        texts += [self._new(write) for write in writers]
        return sorted(texts, key=lambda _: self.rng.random())

    def twins(self) -> list[Text]:
        """One text per label, equal up to and including the entity.

        No two groups begin alike: not even the first word of the entity, where its label is
        due, is reached by the same words.
        """
        beginning, name = self._new(self._twin_beginning)
        write = partial(self.right_decided, beginning[:-1], name)
        return [self._new(partial(write, label)) for label in LABELS]

    def right_decided(self, opening: Sequence[str], name: Sequence[str], label: str) -> Text:
        """A text that gives the label of `name` only after it."""
        said = self.fill(PAUSES, RIGHT_PHRASES[label], ENDINGS)
        return _tag((None, opening), (label, name), (None, said))

    def left_decided(self) -> Text:
        """A text that gives the label of its name before it."""
        label, name = self.pick(LABELS), self.name()
        if self.rng.random() < 0.5:
            before, after = self.fill(LEFT_PHRASES[label]), self.fill(ENDINGS)
        else:
            before = [*self.fill(OPENINGS), "the", self.pick(LEFT_NOUNS[label])]
            after = self.fill(PAUSES, PREDICATES, ENDINGS)
        return _tag((None, before), (label, name), (None, after))

    def pair(self) -> Text:
        """A text with two left-decided names."""
        first, second = self.pick(LABELS), self.pick(LABELS)
        return _tag(
            (None, [*self.fill(OPENINGS), "the", self.pick(LEFT_NOUNS[first])]),
            (first, self.name()),
            (None, [*self.fill(LINKS), "the", self.pick(LEFT_NOUNS[second])]),
            (second, self.name()),
        )

    def without_entity(self) -> Text:
        """A text with words that decide labels, but no name."""
        label = self.pick(LABELS)
        noun = self.pick(LEFT_NOUNS[label])
        said = self.fill(PAUSES, RIGHT_PHRASES[label], ENDINGS)
        return _tag((None, [*self.fill(OPENINGS), "the", noun, *said]))

    def name(self) -> list[str]:
        """A first name, and in three of ten cases a last name."""
        pools = [self.first_names] + [self.last_names] * (self.rng.random() < 0.3)
        return [self.pick(pool[: self.num_names]) for pool in pools]

    def pick(self, options: Sequence[str]) -> str:
        """One of `options`, the same on every version of Python."""
        return options[int(self.rng.random() * len(options))]

    def fill(self, *slots: Sequence[str]) -> list[str]:
        """Words: one option of each slot, in order."""
        phrases = [self.pick(options).replace("{day}", self.pick(DAYS)) for options in slots]
        return " ".join(phrases).split()

    def _twin_beginning(self) -> tuple[Words, Words]:
        opening, name = self.fill(OPENINGS), self.name()
        return (*opening, name[0]), tuple(name)

    def _new(self, draw: Callable[[], tuple[Words, Words]]) -> tuple[Words, Words]:
        """Draw until the first of the pair was never drawn before."""
        for _ in range(MAX_ATTEMPTS):
            drawn = draw()
            if drawn[0] not in self._used:
                self._used.add(drawn[0])
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


def _tag(*parts: tuple[str | None, Sequence[str]]) -> Text:
    """Join (label or None, words) parts into words and their IOB2 tags."""
    words: list[str] = []
    tags: list[str] = []
    for label, part in parts:
        words += part
        if label is None:
            tags += ["O"] * len(part)
        else:
            tags += [f"B-{label}"] + [f"I-{label}"] * (len(part) - 1)
    return tuple(words), tuple(tags)
