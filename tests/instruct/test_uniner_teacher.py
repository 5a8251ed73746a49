from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unmask.instruct.examples import Entity
from unmask.instruct.labels import labels_in
from unmask.instruct.uniner import UniNER
from unmask.instruct.uniner_teacher import (
    Teacher,
    chunk_passages,
    distil,
    kept_entities,
    read_answers,
    read_teacher_answer,
)

ANSWERS = {
    "Bush attacked Iraq .": '[("Bush", "person"), ("Iraq", "country"), ("Bush", "person")]',
    "It rained .": "Sorry, there are no entities.",
    "Москва": '[("Москва", "city"), ("Moscow", "city"), ("x", "MISC")]',
}


class PlayedTeacher(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Chat)
        self.requests: list[tuple] = []
        self.failures: list[int] = []
        self.odd = False


class Chat(BaseHTTPRequestHandler):
    """Fails as `server.failures` says, then answers from ANSWERS."""

    server: PlayedTeacher  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers.get("Authorization"), body))
        if self.server.failures:
            self.send_error(self.server.failures.pop())
            return
        passage = body["messages"][1]["content"].split("Passage: ")[1]
        content = {"choices": [{"message": {"content": ANSWERS[passage]}}]}
        self.reply(content if not self.server.odd else {"error": "odd"})

    def reply(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server():
    server = PlayedTeacher()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def teacher_of(server, **settings) -> Teacher:
    url = f"http://127.0.0.1:{server.server_address[1]}/v1/"
    return Teacher(url, "gpt", first_wait_seconds=0.001, **settings)


def test_the_teacher_is_asked_in_the_published_words(server, tmp_path):
    assert distil(list(ANSWERS), teacher_of(server, api_key="k"), tmp_path / "a.jsonl") == 3
    path, key, body = server.requests[0]
    assert (path, key, body["temperature"]) == ("/v1/chat/completions", "Bearer k", 0.0)
    system, user = body["messages"]
    assert system["content"] == "You are a helpful information extraction system."
    assert user["content"].startswith(
        "Given a passage, your task is to extract all entities and identify their entity types. "
        "The output should be in a list of tuples of the following format: "
        '[("entity 1", "type of entity 1"), ...].\n\nPassage: '
    )


def test_what_was_answered_is_not_asked_again(server, tmp_path):
    path = tmp_path / "a.jsonl"
    passages = list(ANSWERS)
    distil(passages[:2], teacher_of(server), path)
    with path.open("a") as file:
        file.write('{"passage": "cut sho')
    assert distil(passages[:2], teacher_of(server), path) == 0
    assert len(server.requests) == 2


def test_answers_become_examples_and_drops_are_counted(server, tmp_path):
    path = tmp_path / "a.jsonl"
    distil(list(ANSWERS), teacher_of(server), path, num_workers=1)
    examples, counts = read_answers(path)
    assert [example.items for example in examples] == [
        (Entity("Bush", "person"), Entity("Iraq", "country")),
        (Entity("Moscow", "city"),),
    ]
    assert counts == {
        "passages": 3,
        "kept passages": 2,
        "entities": 3,
        "types": 3,
        "dropped: misformatted answer": 1,
        "dropped: catch-all type": 1,
        "dropped: not English": 1,
        "not in the passage": 2,
    }
    grounded, more = read_answers(path, grounded=True)
    assert len(grounded) == more["dropped: no entity left"] == 1


def test_distilled_examples_render_as_training_conversations(server, tmp_path):
    distil(list(ANSWERS), teacher_of(server), tmp_path / "a.jsonl", "definition")
    examples, _ = read_answers(tmp_path / "a.jsonl")
    types = [item.type for one in examples for item in one.of(Entity)]
    for query in UniNER(negatives="uniform").render_all(examples, labels_in(types), train=True):
        assert len(query.labels) >= 2


def test_passing_failures_are_tried_again(server):
    server.failures = [503, 429]
    assert teacher_of(server).ask("Passage: It rained .") == ANSWERS["It rained ."]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("failures", "message"), [([401], "it answered 401"), ([500] * 9, "it answered 500")]
)
def test_a_teacher_that_refuses_is_named(server, failures, message):
    server.failures = failures
    with pytest.raises(RuntimeError, match=message):
        teacher_of(server, num_tries=2).ask("Passage: It rained .")


def test_a_teacher_out_of_reach_is_named():
    with pytest.raises(RuntimeError, match="out of reach"):
        Teacher("http://127.0.0.1:1/v1", "gpt", num_tries=1).ask("x")


def test_another_protocol_is_named(server):
    server.odd = True
    with pytest.raises(RuntimeError, match="does not speak the chat protocol"):
        teacher_of(server).ask("Passage: It rained .")


def test_an_unknown_variant_is_refused(server, tmp_path):
    with pytest.raises(ValueError, match="variant must be one of type, definition, got 'x'"):
        distil([], teacher_of(server), tmp_path / "a.jsonl", "x")


@pytest.mark.parametrize(
    "answer",
    ["", "none", "[", '[("a", "b", "c")]', '[("a", 1)]', '[("a", " ")]', '["a"]', "[a]", "[[]]"],
)
def test_misformatted_answers_are_none(answer):
    assert read_teacher_answer(answer) is None


def test_lists_of_lists_and_text_around_are_read():
    assert read_teacher_answer('Here: [["a", "b"]] ok') == [("a", "b")]
    assert read_teacher_answer("[]") == []


def test_accented_latin_is_kept():
    assert kept_entities("x", [("José", "person")], Counter())


def test_documents_are_cut_into_passages():
    assert list(chunk_passages(["a b c", " ", "d"], 2)) == ["a b", "c", "d"]
