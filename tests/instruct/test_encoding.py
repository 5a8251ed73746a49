from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.instruct.encoding import IGNORED, encode_prompt, encode_training
from unmask.instruct.examples import Entity, IEExample
from unmask.instruct.labels import LabelSet
from unmask.instruct.prompts import Query, Segment, single_turn
from unmask.instruct.registry import SYSTEMS, load_system

LABELS = LabelSet(("LOC", "PER"))
EXAMPLE = IEExample(
    "e",
    "Vana went to Kana",
    ("Vana", "went", "to", "Kana"),
    (Entity("Vana", "PER", 0, 1), Entity("Kana", "LOC", 3, 4)),
)
RESPONSE = {"loss_on": "response"}


def queries_of(name: str, train: bool) -> tuple:
    system = load_system(name, **(RESPONSE if name == "it" else {}))
    return system, system.render(EXAMPLE, LABELS, train)


class WithBeginning:
    """A tokenizer of letters, with a beginning-of-text token, 1, and an end, 2."""

    bos_token_id, eos_token_id = 1, 2

    def __call__(self, text, add_special_tokens=True):
        ids = [ord(letter) + 3 for letter in text]
        return {"input_ids": [self.bos_token_id, *ids] if add_special_tokens else ids}


@pytest.mark.parametrize("name", ["it", "instructuie", "uniner"])
def test_unmasked_tokens_decode_to_the_answers_and_the_end(name, tiny_tokenizer):
    system, queries = queries_of(name, train=True)
    for query in queries:
        encoded = encode_training(query, system.in_loss(query), tiny_tokenizer, 1000)
        trained = [label for label in encoded.label_ids if label != IGNORED]
        answers = [part.text for part in query.segments if part.trained]
        text = tiny_tokenizer.decode(trained, clean_up_tokenization_spaces=False)
        # The embedded tokenizer puts a space before every piece of text.
        end = tiny_tokenizer.eos_token
        assert [one.strip() for one in text.split(end)] == [*map(str.strip, answers), ""]
        for token, label in zip(encoded.token_ids, encoded.label_ids, strict=True):
            assert label in (IGNORED, token)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", SYSTEMS)
def test_every_letter_of_the_answers_and_no_other_is_trained(name, train):
    system, queries = queries_of(name, train)
    assert queries
    for query in queries:
        encoded = encode_training(query, system.in_loss(query), WithBeginning(), 10_000)
        expected = [(1, False)]
        for part in query.segments:
            expected += [(ord(letter) + 3, part.trained) for letter in part.text]
            expected += [(2, part.trained)] if part.ends else []
        assert list(encoded.token_ids) == [token for token, _ in expected]
        assert [label != IGNORED for label in encoded.label_ids] == [one for _, one in expected]
        assert query.segments[-1].trained
        assert query.segments[-1].ends, "an answer that does not end is never told to"


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_prompt_is_the_beginning_of_the_training_text(name, tiny_tokenizer):
    system, queries = queries_of(name, train=False)
    for query in queries:
        prompt = encode_prompt(query, tiny_tokenizer, 1000)
        encoded = encode_training(query, system.in_loss(query), tiny_tokenizer, 1000)
        num = len(prompt.token_ids)
        assert encoded.token_ids[:num] == prompt.token_ids
        assert all(label != IGNORED for label in encoded.label_ids[num:])


def test_the_baseline_trains_on_its_prompt_unless_told_otherwise(tiny_tokenizer):
    system = load_system("it")
    (query,) = system.render(EXAMPLE, LABELS)
    encoded = encode_training(query, system.in_loss(query), tiny_tokenizer, 1000)
    assert encoded.label_ids == encoded.token_ids


def test_a_beginning_token_stands_once_and_is_not_trained():
    query = Query("q", "e", "ner", "ab", (), single_turn("ab", "c"))
    encoded = encode_training(query, (True, True), WithBeginning(), 99)
    assert encoded.token_ids == (1, 100, 101, 102, 2)
    assert encoded.label_ids == (IGNORED, 100, 101, 102, 2)


def test_a_beginning_token_that_a_tokenizer_has_but_never_puts_stays_out():
    class Without(WithBeginning):
        def __call__(self, text, add_special_tokens=True):
            return super().__call__(text, add_special_tokens=False)

    query = Query("q", "e", "ner", "ab", (), single_turn("ab", "c"))
    assert encode_prompt(query, Without(), 99).token_ids == (100, 101)


def test_a_long_passage_loses_words_and_the_frame_stays():
    text = "one two three four"
    query = Query("q", "e", "ner", text, (), single_turn(f"<{text}>", "x"))
    prompt = encode_prompt(query, WithBeginning(), 12)
    assert "".join(chr(token - 3) for token in prompt.token_ids[1:]) == "<one two>"
    assert prompt.num_lost_words == 2
    encoded = encode_training(query, (False, True), WithBeginning(), 12)
    assert (encoded.token_ids[-2:], encoded.num_lost_words) == ((ord("x") + 3, 2), 2)


def test_a_passage_that_stands_in_json_is_shortened_too():
    text = 'one "two" three four'
    prompt = json.dumps({"ask": "x", "input": text})
    query = Query("q", "e", "ner", text, (), single_turn(prompt, "y"))
    room = len(prompt) + 1 - len("three four")
    encoded = encode_prompt(query, WithBeginning(), room)
    read = json.loads("".join(chr(token - 3) for token in encoded.token_ids[1:]))
    assert (read["input"], encoded.num_lost_words) == ('one "two"', 2)


def test_answers_cut_from_the_end_of_a_conversation_are_counted():
    segments = (Segment("ask"), Segment("yes", True, True)) * 3
    query = Query("q", "e", "ner", "", (), segments)
    encoded = encode_training(query, [part.trained for part in segments], WithBeginning(), 17)
    assert (len(encoded.token_ids), encoded.num_lost_answers) == (17, 1)


def test_an_answer_of_more_than_fifty_tokens_is_not_cut(tiny_tokenizer):
    items = tuple(Entity(f"word{index}", "PER") for index in range(40))
    system = load_system("instructuie")
    (query,) = system.render(IEExample("e", "x", items=items), LABELS)
    encoded = encode_training(query, system.in_loss(query), tiny_tokenizer, 4000)
    trained = [label for label in encoded.label_ids if label != IGNORED]
    assert len(trained) > 50
    assert "word39" in tiny_tokenizer.decode(trained)


@settings(deadline=None)
@given(st.text("ab é\n", min_size=1), st.integers(1, 60))
def test_no_text_is_longer_than_allowed(tiny_tokenizer, text, room):
    query = Query("q", "e", "ner", text, (), single_turn(f"read {text} now", " yes"))
    encoded = encode_training(query, (False, True), tiny_tokenizer, room)
    assert len(encoded.token_ids) == len(encoded.label_ids) <= room
