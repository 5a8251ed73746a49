"""Predicted tags: every sentence, in order, cut words as O, whatever the packing."""

import pytest
import torch

from unmask.config import UnmaskConfig
from unmask.data.sentence import Sentence
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.ranks import Ranks
from unmask.tagging import predict_tags

WORDS = ("EU", "rejects", "German", "call", "to", "boycott", "British", "lamb", ".")


def sentences(*lengths):
    return [
        Sentence(str(length), tuple((WORDS * 9)[:length]), ("O",) * length) for length in lengths
    ]


@pytest.fixture(scope="module")
def stack(load_random):
    """Two runs whose heads disagree."""
    configs = [UnmaskConfig.from_code(code, 4) for code in ("0110", "1111")]
    model = UnmaskedForTokenClassification(
        load_random(torch.float64), ["PER"], configs, LoraSettings(rank=2), seeds=[1, 2]
    )
    model.score_weight.data.mul_(50)
    return model.train()


def by_hand(model, run, sentence):
    """One sentence alone, the likeliest tag of each word."""
    encoded = model.encoder.encode_words(sentence.words, 1000)
    batch = model.batch([[encoded] if r == run else [] for r in range(model.num_runs)])
    with model.route(batch), torch.no_grad():
        logits, _ = model.logits(batch)
    return [model.tags[tag] for tag in logits.argmax(dim=1).tolist()]


@pytest.mark.parametrize("tokens_per_forward", [1, 30, 4096])
def test_tags_are_those_of_each_sentence_alone_in_the_order_given(stack, tokens_per_forward):
    runs = [sentences(5, 1, 9, 3), sentences(2, 7)]
    results = predict_tags(stack, runs, 1000, tokens_per_forward)
    stack.eval()
    for run, (tags, num_cut) in enumerate(results):
        assert num_cut == 0
        assert tags == [by_hand(stack, run, sentence) for sentence in runs[run]]
    found = {tag for tags, _ in results for sentence in tags for tag in sentence}
    assert len(found) > 1, "one tag everywhere proves nothing"


def test_who_tags_by_himself_waits_for_no_process_group(stack, monkeypatch):
    expected = predict_tags(stack, [sentences(5), []], 100)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert predict_tags(stack, [sentences(5), []], 100) == expected
    with pytest.raises(ValueError, match="process group"):  # there is none to ask
        predict_tags(stack, [sentences(5), []], 100, ranks=Ranks.here())


def test_words_that_were_cut_are_o_and_counted(stack):
    (tags, num_cut), _ = predict_tags(stack, [sentences(9, 1), []], 4)
    assert [len(sentence) for sentence in tags] == [9, 1]
    kept = stack.encoder.encode_words(WORDS, 4).num_words
    assert num_cut == 9 - kept > 0
    assert tags[0][kept:] == ["O"] * (9 - kept)


def test_a_run_may_have_nothing_to_tag(stack):
    assert predict_tags(stack, [[], []], 100) == [([], 0), ([], 0)]
