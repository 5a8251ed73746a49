"""What is wrong with this corpus, in words: counts and findings, each with file and line.

`check_corpus` only looks. The one thing that is easy to get wrong: an over-long sentence is not
broken, but its words past the limit cannot be labelled and count as O when it is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from unmask.data.sentence import SPLITS, Corpus, Sentence
from unmask.data.tags import invalid_positions, spans_from_tags

NUM_SHOWN = 10
"""How many findings of one kind `to_text` writes out; the rest are counted."""


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """How much there is of one split. `spans` counts strict entities by label."""

    split: str
    num_sentences: int
    num_words: int
    spans: dict[str, int]
    longest: int
    """Words in the longest sentence."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong at one place; `place` is a sentence id, "file:line" as readers make them."""

    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `check_corpus` saw.

    `invalid_tags` break IOB2; `blank_words` are empty or white space; `duplicates` are sentences
    that occur in several splits; `lonely_labels` have spans in one split only; `over_long`
    sentences do not fit `max_subtokens`.
    """

    corpus: str
    counts: tuple[SplitCounts, ...]
    invalid_tags: tuple[Finding, ...] = ()
    blank_words: tuple[Finding, ...] = ()
    duplicates: tuple[Finding, ...] = ()
    lonely_labels: tuple[Finding, ...] = ()
    over_long: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = field(default=(), repr=False)

    @property
    def num_broken(self) -> int:
        """How many tags and words are broken; the other findings are for the user to judge."""
        return len(self.invalid_tags) + len(self.blank_words)

    def to_text(self) -> str:
        """The report in words, for a terminal."""
        return "\n".join(_report_lines(self))


def check_corpus(
    corpus: Corpus,
    max_subtokens: int | None = None,
    count_subtokens: Callable[[Sequence[str]], int] | None = None,
) -> Report:
    """Count and check every sentence of every split.

    Args:
        corpus: as `load_task` returns it.
        max_subtokens: length limit of the model; None checks no lengths.
        count_subtokens: words of a sentence -> its sub-tokens. Without it a sentence counts as
            too long when it has more words than `max_subtokens`, which is the least it can be.
    """
    pairs = [(split, sentence) for split in SPLITS for sentence in corpus.split(split)]
    sentences = [sentence for _, sentence in pairs]
    counts = tuple(_counts(split, corpus.split(split)) for split in SPLITS)
    return Report(
        corpus=corpus.name,
        counts=counts,
        invalid_tags=tuple(_invalid_tags(sentences)),
        blank_words=tuple(_blank_words(sentences)),
        duplicates=tuple(_duplicates(pairs)),
        lonely_labels=tuple(_lonely_labels(corpus, counts)),
        over_long=tuple(_over_long(sentences, max_subtokens, count_subtokens)),
        notes=corpus.notes,
    )


def _counts(split: str, sentences: Sequence[Sentence]) -> SplitCounts:
    spans = Counter(span.label for s in sentences for span in spans_from_tags(s.tags))
    lengths = [len(sentence.words) for sentence in sentences]
    return SplitCounts(
        split, len(sentences), sum(lengths), dict(sorted(spans.items())), max(lengths, default=0)
    )


def _invalid_tags(sentences: Sequence[Sentence]) -> Iterator[Finding]:
    for sentence in sentences:
        for position in invalid_positions(sentence.tags):
            before = f"after {sentence.tags[position - 1]}" if position else "at the beginning"
            yield Finding(
                sentence.id,
                f"word {position + 1} ({sentence.words[position]!r}): {sentence.tags[position]} "
                f"{before} belongs to no entity",
            )


def _blank_words(sentences: Sequence[Sentence]) -> Iterator[Finding]:
    for sentence in sentences:
        for position, word in enumerate(sentence.words):
            if not word.strip():
                yield Finding(sentence.id, f"word {position + 1} is {word!r}")


def _duplicates(pairs: Sequence[tuple[str, Sentence]]) -> Iterator[Finding]:
    """One finding per sentence of a later split whose words stand in an earlier one."""
    first: dict[tuple[str, ...], tuple[str, Sentence]] = {}
    for split, sentence in pairs:
        first_split, earlier = first.setdefault(sentence.words, (split, sentence))
        if first_split != split:
            tags = "the same tags" if earlier.tags == sentence.tags else "OTHER TAGS"
            yield Finding(
                sentence.id,
                f"this {split} sentence is also in {first_split} at {earlier.id}, with {tags}: "
                f"{_shortened(sentence.words)}",
            )


def _lonely_labels(corpus: Corpus, counts: Sequence[SplitCounts]) -> Iterator[Finding]:
    filled = [count for count in counts if count.num_sentences]
    for label in corpus.labels:
        holders = [count.split for count in filled if count.spans.get(label)]
        if not holders:
            yield Finding(label, "occurs in no split")
        elif len(holders) == 1 < len(filled):
            yield Finding(label, f"occurs in {holders[0]} only")


def _over_long(
    sentences: Sequence[Sentence],
    max_subtokens: int | None,
    count_subtokens: Callable[[Sequence[str]], int] | None,
) -> Iterator[Finding]:
    if max_subtokens is None:
        return
    unit = "words" if count_subtokens is None else "sub-tokens"
    for sentence in sentences:
        length = (count_subtokens or len)(sentence.words)
        if length > max_subtokens:
            yield Finding(
                sentence.id, f"{length} {unit}, more than the {max_subtokens} sub-tokens that fit"
            )


def _report_lines(report: Report) -> Iterator[str]:
    yield f"Corpus {report.corpus}"
    for note in report.notes:
        yield f"  {note}"
    for count in report.counts:
        if not count.num_sentences:
            yield f"{count.split}: empty"
            continue
        spans = ", ".join(f"{label} {number}" for label, number in count.spans.items())
        yield (
            f"{count.split}: {count.num_sentences} sentences, {count.num_words} words (longest "
            f"sentence {count.longest}), {sum(count.spans.values())} spans: {spans or 'none'}"
        )
    yield from _finding_lines("tags that break IOB2", report.invalid_tags)
    yield from _finding_lines("words that are empty or white space", report.blank_words)
    yield from _finding_lines("sentences that are in two splits", report.duplicates)
    yield from _finding_lines("labels that not every split has", report.lonely_labels)
    yield from _finding_lines("sentences that are too long", report.over_long)


def _finding_lines(title: str, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"{title}: {len(findings) or 'none'}"
    for finding in findings[:NUM_SHOWN]:
        yield f"  {finding.place}: {finding.message}"
    if len(findings) > NUM_SHOWN:
        yield f"  and {len(findings) - NUM_SHOWN} more"


def _shortened(words: Sequence[str], width: int = 60) -> str:
    text = " ".join(words)
    return text if len(text) <= width else f"{text[: width - 3]}..."
