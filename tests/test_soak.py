"""Memory stays level over thousands of calls: predicting alone, as a stream, and over HTTP."""

import gc
import random

import psutil
import pytest

from unmask.data.lookright import generate

pytestmark = pytest.mark.slow

MEBIBYTES = 2**20
ALLOWED_GROWTH = 24 * MEBIBYTES
"""After the warm-up. The allocator's own ups and downs are a few megabytes; one leaked sentence a
call (some kilobytes of tensors) would pass this within a fifth of the calls made here."""


@pytest.fixture(scope="module")
def labeler(random_labeler):
    return random_labeler("0110")


def texts(count: int, seed: int) -> list[str]:
    """Texts of all lengths, from nothing to several windows."""
    draw = random.Random(seed)
    words = [word for sentence in generate().train[:200] for word in sentence.words]
    return [
        " ".join(draw.choices(words, k=draw.choice((0, 1, 7, 20, 60, 300)))) for _ in range(count)
    ]


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def growth_of(step, num_steps: int, num_warm: int) -> int:
    """Bytes that memory grew between the end of the warm-up and the end."""
    for index in range(num_warm):
        step(index)
    before = resident()
    for index in range(num_warm, num_warm + num_steps):
        step(index)
    return resident() - before


def test_predicting_again_and_again_leaves_memory_level(labeler):
    grown = growth_of(lambda index: labeler.predict(texts(40, index)), num_steps=40, num_warm=10)
    assert grown < ALLOWED_GROWTH


def test_a_long_stream_leaves_memory_level(labeler):
    def step(index):
        for _ in labeler.predict_iter(iter(texts(200, index)), read_ahead=64):
            pass

    assert growth_of(step, num_steps=6, num_warm=2) < ALLOWED_GROWTH


def test_serving_leaves_memory_level(labeler):
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from unmask.plugins.serve import Limits, create_app

    with labeler.merged(), TestClient(create_app(labeler, Limits(max_body_bytes=4096))) as client:

        def step(index):
            for number, text in enumerate(texts(20, index)):
                body = {"inputs": text, "format": "hf"} if number % 5 else {"inputs": 7}
                assert client.post("/predict", json=body).status_code in (200, 413, 422)

        assert growth_of(step, num_steps=60, num_warm=15) < ALLOWED_GROWTH
