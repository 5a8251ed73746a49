"""Aspect terms with their polarity from the XML of SemEval-2014 Task 4.

Terms are given as character offsets and tokens come from spaCy's English tokenizer rules (no
model is needed). The one thing that is easy to get wrong: some terms do not end where a token
does. They cannot be labelled; they are discarded, as the reference does, and counted.
"""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from unmask.data.docbin import words_and_tags
from unmask.data.sentence import Span
from unmask.data.source import RawSentence, Reading, ReadOptions, Source, finish_reading

if TYPE_CHECKING:
    from spacy.tokenizer import Tokenizer
    from spacy.tokens import Doc

_UNALIGNED = "terms discarded because they do not begin and end where tokens do"
_WRONG_OFFSETS = "terms discarded because their offsets give other text"
_OVERLAPPING = "terms discarded because they overlap an earlier one"
_EMPTY = "sentences without words left out"


def read_semeval(path: Path, options: ReadOptions) -> Reading:
    """Sentences whose labels are the polarities of their aspect terms.

    Raises:
        ValueError: naming the line, for XML that is broken, declares a document type, has
            another shape, or has terms without polarity (the unlabelled test file).
    """
    root, lines = parse_xml(path)
    tokenizer = _english_tokenizer()
    counts: Counter[str] = Counter()
    first_places: dict[str, int] = {}
    raws: list[RawSentence] = []
    for element in root.iter("sentence"):
        line = lines[element]
        text = element.findtext("text")
        if text is None:
            raise ValueError(f"{path}:{line}: this <sentence> has no <text>")
        doc = tokenizer(text)
        spans: list[Span] = []
        for term in element.iter("aspectTerm"):
            span, problem = _aligned(term, doc, spans, f"{path}:{lines[term]}")
            if span is not None:
                spans.append(span)
            else:
                counts[problem] += 1
                first_places.setdefault(problem, lines[term])
        words, tags = words_and_tags(doc, spans)
        if words:
            raws.append(RawSentence(words, tags, (line,) * len(words)))
        else:
            counts[_EMPTY] += 1
            first_places.setdefault(_EMPTY, line)
    notes = [
        f"{count} {problem}, the first at {path.name}:{first_places[problem]}"
        for problem, count in counts.items()
    ]
    return finish_reading(raws, Source.of(path), "SemEval-2014 Task 4 XML", options, notes)


def parse_xml(path: Path) -> tuple[Element, dict[Element, int]]:
    """The root element of an XML file, and the line on which each element begins.

    A document type is refused: its entity declarations can make a small file expand without
    bound or read other files.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for broken XML or a document type, naming the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    parser = expat.ParserCreate()
    builder = TreeBuilder()
    lines: dict[Element, int] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        lines[builder.start(name, attributes)] = parser.CurrentLineNumber

    def refuse(*_: object) -> None:
        raise ValueError(
            f"{path}:{parser.CurrentLineNumber}: the file declares a document type or entities, "
            "which is not accepted; remove the <!DOCTYPE ...> part"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        raise ValueError(
            f"{path}:{error.lineno}: not valid XML: {expat.ErrorString(error.code)}"
        ) from None
    except LookupError as error:
        raise ValueError(f"{path}:1: {error}; save the file as UTF-8") from None
    return builder.close(), lines


@cache
def _english_tokenizer() -> Tokenizer:
    import spacy

    return spacy.blank("en").tokenizer


def _aligned(term: Element, doc: Doc, earlier: list[Span], place: str) -> tuple[Span | None, str]:
    """The term as a span of tokens, or None and why not."""
    polarity = term.get("polarity")
    begin, end = term.get("from", ""), term.get("to", "")
    if not polarity or not begin.isdecimal() or not end.isdecimal():
        raise ValueError(
            f'{place}: an <aspectTerm> needs "polarity", "from" and "to"; got {dict(term.attrib)}; '
            "if this is the test file without answers, take the one with them"
        )
    first, last = int(begin), int(end)
    if doc.text[first:last] != term.get("term", doc.text[first:last]):
        return None, _WRONG_OFFSETS
    tokens = doc.char_span(first, last) if first < last <= len(doc.text) else None
    if tokens is None:
        return None, _UNALIGNED
    if any(span.start < tokens.end and tokens.start < span.end for span in earlier):
        return None, _OVERLAPPING
    return Span(tokens.start, tokens.end, polarity), ""
