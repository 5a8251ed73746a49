from __future__ import annotations

from collections.abc import Iterator

import pytest

from unmask.plugins.pipeline import TokenClassificationPipeline

TEXT = "Velmora , a river in the north , froze early"


@pytest.fixture(scope="module")
def pipe(random_labeler):
    return TokenClassificationPipeline(random_labeler())


def test_calls_and_keys_are_those_of_the_transformers_pipeline(pipe):
    answer = pipe(TEXT)
    assert {tuple(span) for span in answer} == {("entity_group", "score", "word", "start", "end")}
    assert all(TEXT[span["start"] : span["end"]] == span["word"] for span in answer)
    assert pipe([TEXT, TEXT], batch_size=1) == [answer, answer]


def test_another_iterable_gives_an_iterator(pipe):
    answers = pipe(text for text in [TEXT, "", TEXT])
    assert isinstance(answers, Iterator)
    assert [len(answer) for answer in answers] == [len(pipe(TEXT)), 0, len(pipe(TEXT))]


def test_a_folder_will_do(pipe, tmp_path):
    pipe.model.save_pretrained(tmp_path)
    assert TokenClassificationPipeline(tmp_path)(TEXT) == pipe(TEXT)


@pytest.mark.parametrize("strategy", ["simple", "first"])
def test_strategies_that_ask_for_groups_are_taken(pipe, strategy):
    made = TokenClassificationPipeline(pipe.model, aggregation_strategy=strategy)
    assert made(TEXT) == pipe(TEXT, aggregation_strategy=strategy) == pipe(TEXT)


@pytest.mark.parametrize("strategy", ["none", "average", "max", None])
def test_strategies_that_ask_for_sub_tokens_are_refused(pipe, strategy):
    message = f"aggregation_strategy must be one of simple, first, got {strategy!r}"
    with pytest.raises(ValueError, match=message):
        pipe(TEXT, aggregation_strategy=strategy)
    with pytest.raises(ValueError, match=message):
        TokenClassificationPipeline(pipe.model, aggregation_strategy=strategy)
