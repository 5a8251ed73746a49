from __future__ import annotations

import asyncio
import json
import threading

import httpx
import pytest

import unmask
from unmask.plugins.serve import Limits, create_app

TEXT = "Velmora , a river in the north , froze early"


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler()


def talk(labeler, conversation, limits=None):
    """Run `conversation(client, app)` against an application in this process."""
    app = create_app(labeler, limits)

    async def scenario():
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await conversation(client, app)

    return asyncio.run(asyncio.wait_for(scenario(), timeout=60))


def post(labeler, body, limits=None, **how):
    async def conversation(client, app):
        given = how or {"json": body}
        return await client.post("/predict", **given)

    return talk(labeler, conversation, limits)


def close_to(spans):
    return [{**span, "score": pytest.approx(span["score"], abs=1e-5)} for span in spans]


def test_a_text_and_a_list_are_answered_as_predict_answers(labeler):
    expected = close_to(labeler.predict(TEXT))
    assert post(labeler, {"inputs": TEXT}).json() == {"results": expected}
    assert post(labeler, {"inputs": [TEXT, ""]}).json() == {"results": [expected, []]}
    by_words = post(labeler, {"inputs": [TEXT.split()]}).json()["results"][0]
    assert [TEXT.split()[span["word_start"]] for span in by_words] == [
        span["text"].split()[0] for span in labeler.predict(TEXT)
    ]


def test_threshold_and_format_are_obeyed(labeler):
    spans = post(labeler, {"inputs": TEXT, "threshold": 0.5, "format": "hf"}).json()["results"]
    expected = labeler.predict(TEXT, threshold=0.5, format="hf")
    assert expected
    assert spans == close_to(expected)


def test_health_says_what_is_served(labeler):
    async def conversation(client, app):
        return (await client.get("/health")).json()

    assert talk(labeler, conversation) == {
        "status": "ok",
        "model": "tiny",
        "unmask": "0110",
        "labels": ["LOC", "PER"],
        "max_subtokens": labeler.max_subtokens,
        "version": unmask.__version__,
        "waiting": 0,
    }


def test_metrics_count_what_was_labelled_refused_and_failed(labeler, monkeypatch):
    async def conversation(client, app):
        await client.post("/predict", json={"inputs": [TEXT, "a"]})
        app.state.batcher.num_waiting = 4
        assert (await client.post("/predict", json={"inputs": TEXT})).status_code == 429
        app.state.batcher.num_waiting = 0
        monkeypatch.setattr(labeler, "predict", lambda *_, **__: 1 / 0, raising=False)
        with pytest.raises(ZeroDivisionError):
            await client.post("/predict", json={"inputs": TEXT})
        return await client.get("/metrics")

    answer = talk(labeler, conversation, Limits(max_waiting=4))
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    values = dict(line.split(" ") for line in lines if not line.startswith("#"))
    assert float(values.pop("unmask_labelling_seconds_total")) > 0
    assert values == {
        "unmask_texts_labelled_total": "2",
        "unmask_texts_refused_total": "1",
        "unmask_texts_failed_total": "1",
        "unmask_batches_total": "2",
        "unmask_texts_waiting": "0",
    }


def test_nothing_is_labelled_for_a_client_that_hung_up(labeler, monkeypatch):
    started, go, labelled = threading.Event(), threading.Event(), []
    original = labeler.predict

    def held(items, **settings):
        labelled.extend(items)
        started.set()
        assert go.wait(timeout=30)
        return original(items, **settings)

    monkeypatch.setattr(labeler, "predict", held, raising=False)

    async def conversation(client, app):
        first = asyncio.create_task(client.post("/predict", json={"inputs": "first"}))
        while not started.is_set():
            await asyncio.sleep(0.001)
        body, sent = json.dumps({"inputs": "left"}).encode(), []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive():
            if messages:
                return messages.pop()
            while not app.state.batcher.num_waiting:
                await asyncio.sleep(0.001)
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers}
        await app({**scope, "query_string": b"", "http_version": "1.1"}, receive, send)
        go.set()
        assert (await first).status_code == 200
        assert (await client.post("/predict", json={"inputs": "next"})).status_code == 200
        return sent

    assert talk(labeler, conversation)[0]["status"] == 499
    assert labelled == ["first", "next"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "body.inputs: Field required"),
        ({"inputs": 3}, "body.inputs: Input should be a valid string; body.inputs: Input should"),
        ({"inputs": [["a", " "]]}, "String should match pattern"),
        ({"inputs": "a", "threshold": 2}, "less than or equal to 1"),
        ({"inputs": "a", "format": "xml"}, "body.format"),
        ({"inputs": "a", "trust_remote_code": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_is_no_request_is_answered_with_422_and_the_reason(labeler, body, reason):
    answer = post(labeler, body)
    assert answer.status_code == 422
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"inputs": "\\ud800"}', b""])
def test_what_is_no_json_or_no_text_is_answered_with_422(labeler, content):
    headers = {"content-type": "application/json"}
    answer = post(labeler, None, content=content, headers=headers)
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


def test_a_body_over_the_limit_is_answered_with_413_with_or_without_a_length(labeler):
    limits = Limits(max_body_bytes=200)
    assert post(labeler, {"inputs": "a" * 100}, limits).status_code == 200
    assert post(labeler, {"inputs": "a" * 300}, limits).status_code == 413

    async def chunks():
        for _ in range(10):
            yield b"a" * 50

    answer = post(labeler, None, limits, content=chunks())
    assert answer.status_code == 413
    assert answer.json()["detail"] == "the body is larger than 200 bytes; send less at once"


def test_more_inputs_than_may_ever_wait_are_refused_for_good(labeler):
    answer = post(labeler, {"inputs": ["a"] * 5}, Limits(max_waiting=4))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "at most 4 inputs in one request"


def test_past_the_limit_429_and_what_waited_is_answered(labeler, monkeypatch):
    started, go = threading.Event(), threading.Event()
    original = labeler.predict

    def held(*arguments, **settings):
        started.set()
        assert go.wait(timeout=30)
        return original(*arguments, **settings)

    monkeypatch.setattr(labeler, "predict", held, raising=False)

    async def conversation(client, app):
        def ask():
            return asyncio.create_task(client.post("/predict", json={"inputs": TEXT}))

        async def until(condition):
            while not condition():
                await asyncio.sleep(0.001)

        first = ask()
        await until(started.is_set)
        waiting = [ask() for _ in range(3)]
        await until(lambda: app.state.batcher.num_waiting == 3)
        refused = await ask()
        go.set()
        return [await task for task in (first, *waiting)], refused

    answered, refused = talk(labeler, conversation, Limits(max_waiting=3))
    assert [answer.status_code for answer in answered] == [200] * 4
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"


def test_no_request_of_many_clients_is_lost_and_each_gets_its_own_answer(labeler):
    words = TEXT.split()
    texts = [" ".join(words[: 1 + n % len(words)]) for n in range(150)]
    expected = labeler.predict(texts, format="hf")

    async def conversation(client, app):
        pending = iter(enumerate(texts))
        answers = {}

        async def one_client():
            for index, text in pending:
                body = {"inputs": text, "format": "hf"}
                answers[index] = (await client.post("/predict", json=body)).json()["results"]

        await asyncio.gather(*(one_client() for _ in range(32)))
        return [answers[index] for index in range(len(texts))]

    for got, wanted in zip(talk(labeler, conversation), expected, strict=True):
        assert got == close_to(wanted)


def test_a_labeler_whose_mask_disagrees_is_not_served(random_labeler):
    labeler = random_labeler()
    labeler.backbone.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match="the mask is not what the configuration says"):
        create_app(labeler)


@pytest.mark.parametrize("name", ["max_body_bytes", "max_waiting", "max_batch"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Limits(**{name: 0})
