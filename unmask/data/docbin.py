"""Entities of spaCy's binary `.spacy` files (DocBin), and spaCy documents in general.

The one thing that is easy to get wrong: spaCy keeps runs of white space as tokens. They are no
words, so they are taken out here and the spans are moved accordingly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unmask.data.sentence import Span
from unmask.data.source import RawSentence, Reading, ReadOptions, Source, finish_reading
from unmask.data.tags import tags_from_spans

if TYPE_CHECKING:
    from spacy.tokens import Doc
    from spacy.tokens import Span as DocSpan


def read_docbin(path: Path, options: ReadOptions) -> Reading:
    """The entities (`doc.ents`) of every document; "lines" are document numbers, from 1.

    Documents with sentence boundaries are cut there, unless an entity crosses one: those stay
    whole and are counted.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a file that is no DocBin.
    """
    from spacy.tokens import DocBin
    from spacy.vocab import Vocab

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        docs = list(DocBin().from_disk(path).get_docs(Vocab()))
    except Exception as error:  # msgpack, zlib and numpy each raise their own
        raise ValueError(
            f"{path}: not a spaCy DocBin ({type(error).__name__}); make one with DocBin.to_disk"
        ) from None
    raws: list[RawSentence] = []
    num_whole = num_unannotated = 0
    for number, doc in enumerate(docs, start=1):
        pieces = list(_sentences(doc))
        num_whole += doc.has_annotation("SENT_START") and len(pieces) == 1 < len(list(doc.sents))
        num_unannotated += len(doc) > 0 and not doc.has_annotation("ENT_IOB")
        for piece in pieces:
            spans = [Span(e.start, e.end, e.label_ or "ENTITY") for e in piece.ents]
            words, tags = words_and_tags(piece, spans)
            if words:
                raws.append(RawSentence(words, tags, (number,) * len(words)))
    notes = []
    if num_whole:
        notes.append(f"{num_whole} documents kept whole, an entity crosses a sentence boundary")
    if num_unannotated:
        notes.append(f"{num_unannotated} documents never had entities set; all their words are O")
    return finish_reading(raws, Source.of(path), "spaCy DocBin", options, notes)


def words_and_tags(
    piece: Doc | DocSpan, spans: Sequence[Span]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Words of a spaCy document or a stretch of one, white space left out, with IOB2 tags.

    `spans` count the tokens of the whole document. A span of white space only disappears.

    Raises:
        ValueError: for spans that overlap.
    """
    first = piece[0].i if len(piece) else 0
    words = tuple(token.text for token in piece if token.text.strip())
    words_before = [0]
    for token in piece:
        words_before.append(words_before[-1] + bool(token.text.strip()))
    moved = [
        Span(words_before[span.start - first], words_before[span.end - first], span.label)
        for span in spans
    ]
    return words, tags_from_spans([span for span in moved if span.start < span.end], len(words))


def _sentences(doc: Doc) -> Iterator[Doc | DocSpan]:
    """The sentences of a document if it has them and they cut no entity, else the document."""
    if not doc.has_annotation("SENT_START"):
        yield doc
        return
    begins = {sentence.start for sentence in doc.sents}
    if any(begins & set(range(entity.start + 1, entity.end)) for entity in doc.ents):
        yield doc
        return
    yield from doc.sents
