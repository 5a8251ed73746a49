"""Vectors of the released mapper (behaviour, run once by hand) and the published bytes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from unmask.data.sentence import Sentence
from unmask.data.tags import repair, spans_from_tags
from unmask.instruct.examples import Entity, IEExample, example_from_sentence
from unmask.instruct.it import InstructionBaseline
from unmask.instruct.label_names import ACE_EVENTS, CHUNKS
from unmask.instruct.labels import LabelSet

WORDS = ("EU", "rejects", "German", "call", "to", "boycott", "British", "lamb", ".")
TAGS = ("B-ORG", "O", "B-MISC", "O", "O", "O", "B-MISC", "O", "O")
CONLL = LabelSet(("LOC", "MISC", "ORG", "PER"))
IT = InstructionBaseline()
ROBUST = InstructionBaseline(robust=True)


def query_of(words=WORDS, tags=TAGS, system=IT):
    (query,) = system.render(example_from_sentence(Sentence("s", words, tags)), CONLL)
    return query


def tags_of(output: str, system=IT, words=WORDS):
    query = query_of(words, ("O",) * len(words), system)
    return system.tags(words, [(query, output)], CONLL)


def labels_found(output: str, system=IT):
    return [(WORDS[s.start], s.label) for s in spans_from_tags(tags_of(output, system))]


def test_the_prompt_has_the_published_bytes():
    assert query_of().prompt() == (
        "### Instruction: \nplease extract named entities and their type from the input sentence, "
        "all entity types are in options \n\n### Options:\nperson, location, organization, "
        "miscellaneous\n\n### Sentence:\nEU rejects German call to boycott British lamb .\n\n"
        "### Response:\n"
    )
    assert query_of().answer == "EU:organization;German:miscellaneous;British:miscellaneous\n"
    assert query_of(tags=("O",) * 9).answer == "\n"


@pytest.mark.parametrize(
    ("task", "names", "instruction", "options"),
    [
        (
            "absa",
            ("conflict", "negative", "neutral", "positive"),
            "please extract aspect terms and their polarity from the input sentence, all polarity "
            "types are in options",
            "positive, negative, neutral, conflict",
        ),
        (
            "chunking",
            tuple(sorted(CHUNKS)),
            "please extract chunks and their type from the input sentence, all chunk types are in "
            "options",
            "noun phrase, verb phrase, prepositional phrase, adverb phrase, subordinated clause, "
            "adjective phrase, particles, conjunction phrase, interjection, list marker, unlike "
            "coordinated phrase",
        ),
        (
            "events",
            tuple(sorted(ACE_EVENTS)),
            "please extract events and their types from the input sentence, all event types are in "
            "options",
            "merge organization, start organization, declare bankruptcy, end organization, grant "
            "pardon, extradite, execute, impose fine, conduct trial hearing, issue sentence, file "
            "appeal, convict, file lawsuit, release on parole, arrest and send to jail, charge and "
            "indict, acquit, participate in protest or demonstration, attack, contact via written "
            "or telephone communication, meet, start position, elect, end position, nominate, "
            "transfer ownership, transfer money, marry, divorce, be born, die, sustain injury, "
            "transport",
        ),
    ],
)
def test_other_tasks_have_their_own_instruction_and_options(task, names, instruction, options):
    example = example_from_sentence(Sentence("s", ("x",), ("O",)))
    for system in (IT, InstructionBaseline(instruction=task)):
        (query,) = system.render(example, LabelSet(names))
        assert query.task == task
        assert query.prompt() == (
            f"### Instruction: \n{instruction} \n\n### Options:\n{options}\n\n### Sentence:\nx\n\n"
            "### Response:\n"
        )


def test_labels_that_were_not_published_are_asked_for_as_entities():
    example = example_from_sentence(Sentence("s", ("x",), ("O",)))
    (query,) = IT.render(example, LabelSet(("drug", "positive")))
    assert query.task == "ner"
    assert "please extract named entities" in query.prompt()


def test_the_gold_answer_gives_the_gold_tags():
    query = query_of()
    assert IT.tags(WORDS, [(query, query.answer)], CONLL) == TAGS
    assert query.collision == ""


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("", []),
        (" \n", []),
        ("EU:organization", [("EU", "ORG")]),
        # Left to right only: what stands before the cursor is lost.
        ("British:miscellaneous;EU:organization", [("British", "MISC")]),
        # One chunk without a colon blanks the sentence, valid spans before it too.
        ("EU:organization;", []),
        ("none", []),
        ("EU:organization;German", []),
        # A space before the type makes it another type, which no gold has.
        ("EU: organization", [("EU", " organization")]),
        ("eu:organization", []),
        ("German call:miscellaneous;call to:miscellaneous", [("German", "MISC")]),
        ("EU:planet", [("EU", "planet")]),
        ("EU:", [("EU", "?")]),
    ],
)
def test_the_mapper_does_what_the_released_one_does(output, found):
    assert labels_found(output) == found


@pytest.mark.parametrize(
    ("output", "found", "status"),
    [
        ("EU:organization;", [("EU", "ORG")], "partial"),
        ("EU: Organization ", [("EU", "ORG")], "ok"),
        ("EU:planet", [], "malformed"),
        ("none", [], "malformed"),
    ],
)
def test_the_robust_reading_keeps_what_can_be_kept(output, found, status):
    assert labels_found(output, ROBUST) == found
    assert ROBUST.parse(output, query_of()).status == status


@pytest.mark.parametrize(
    ("output", "status"), [("", "empty"), ("EU:organization", "ok"), ("none", "malformed")]
)
def test_the_strict_reading_is_whole_or_nothing(output, status):
    assert IT.parse(output, query_of()).status == status


@pytest.mark.parametrize(
    ("words", "tags"),
    [
        (("John", "met", "John"), ("O", "O", "B-PER")),
        (("a;b", "won"), ("B-PER", "O")),
        ((";", "x"), ("B-PER", "O")),
    ],
)
def test_a_gold_that_does_not_come_back_is_reported(words, tags):
    assert query_of(words, tags).collision
    example = example_from_sentence(Sentence("s", words, tags))
    assert not InstructionBaseline(collisions="drop").render(example, CONLL)
    with pytest.raises(ValueError, match=r"s#it: .*collisions='keep' or 'drop' go on"):
        InstructionBaseline(collisions="raise").render(example, CONLL)


words_and_tags = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(("O", "B-PER", "I-PER", "B-LOC"))),
    min_size=1,
    max_size=12,
)


@given(words_and_tags)
def test_without_a_collision_the_gold_tags_come_back(pairs):
    words, raw = zip(*pairs, strict=True)
    tags, _ = repair(raw)
    query = query_of(words, tags)
    assert query.collision or IT.tags(words, [(query, query.answer)], CONLL) == tags


@given(words_and_tags, st.text("abcde:;person "))
def test_the_own_metric_is_seqeval_strict(pairs, output):
    words, raw = zip(*pairs, strict=True)
    tags, _ = repair(raw)
    query = query_of(words, tags)
    predicted = IT.tags(words, [(query, output)], LabelSet(query.labels))
    # seqeval cannot be told to leave its own names alone, so the reference reads natural names.
    gold = [
        tag[:2] + CONLL.to_natural(tag[2:]) if tag != "O" else tag
        for tag in IT.tags(words, [(query, query.answer)], CONLL)
    ]
    if query.collision:
        return
    zero: Any = 0
    expected = f1_score([gold], [list(predicted)], mode="strict", scheme=IOB2, zero_division=zero)
    assert IT.evaluate([(query, output)])["f1"] == pytest.approx(expected)


def test_loss_is_on_everything_unless_asked():
    assert IT.in_loss(query_of()) == (True, True)
    assert InstructionBaseline(loss_on="response").in_loss(query_of()) == (False, True)


def test_official_decoding_samples_as_llama_2_does():
    decoding = InstructionBaseline(mode="official").decoding()
    assert (decoding.sample, decoding.temperature, decoding.top_p) == (True, 0.6, 0.9)
    assert decoding.max_length == 1024
    assert not IT.decoding().sample


def test_text_without_words_is_refused():
    with pytest.raises(ValueError, match="t: the baseline labels words"):
        IT.render(IEExample("t", "some text", items=(Entity("some", "PER"),)), CONLL)


def test_unknown_settings_are_refused():
    with pytest.raises(ValueError, match="it: loss_on must be one of all, response, got 'none'"):
        InstructionBaseline(loss_on="none")
