import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from unmask.scale.language_models import (
    IGNORED,
    align_head,
    build,
    hidden_places,
    mask_tokens,
    masked_token_loss,
    next_token_loss,
)
from unmask.scale.settings import Pretraining

KINDS = [("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama")]


@pytest.fixture(params=KINDS, ids=lambda pair: "-".join(pair))
def kind_and_model(request, smallest, tokenizer):
    kind, shape = request.param
    settings = replace(smallest, decoder_shape=shape)
    return kind, build(kind, settings, tokenizer).eval()


def test_only_the_encoder_sees_right(kind_and_model):
    kind, model = kind_and_model
    tokens = torch.arange(12)[None] + 20
    changed = tokens.clone()
    changed[0, 7] = 99
    with torch.no_grad():
        before, after = (model.base_model(input_ids=t).last_hidden_state for t in (tokens, changed))
    moved = (before - after).abs().amax(dim=-1)[0] > 1e-6
    assert moved[7:].all()
    assert moved[:7].all() == (kind == "encoder")
    assert moved[:7].any() == (kind == "encoder")


@pytest.mark.parametrize("multiple", [1, 32])
@pytest.mark.parametrize("aligned", [False, True])
def test_losses_and_gradients_are_those_of_the_stock_classes(kind_and_model, multiple, aligned):
    kind, model = kind_and_model
    model.set_attn_implementation("sdpa")
    tokens = torch.randint(5, 400, (3, 24), generator=torch.Generator().manual_seed(0))
    targets = tokens
    if kind == "encoder":
        targets = torch.where(torch.arange(24) % 5 == 1, tokens, IGNORED)
    theirs = model(tokens, labels=targets).loss
    if aligned:
        align_head(model)
    if kind == "encoder":
        places = map(torch.from_numpy, hidden_places(targets.numpy(), multiple))
        ours = masked_token_loss(model, tokens, *places)
    else:
        ours = next_token_loss(model, tokens)
    torch.testing.assert_close(ours, theirs)
    parameters = list(model.parameters())
    wanted, found = (torch.autograd.grad(loss, parameters) for loss in (theirs, ours))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_attention_without_a_mask_is_the_stock_one(kind_and_model):
    _, model = kind_and_model
    tokens = torch.randint(5, 400, (3, 24), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = model.base_model(input_ids=tokens).last_hidden_state
        model.set_attn_implementation("eager")
        theirs = model.base_model(input_ids=tokens).last_hidden_state
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_aligned_head_has_whole_rows_and_is_saved_as_it_was(kind_and_model):
    _, model = kind_and_model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    align_head(model)
    head = model.get_output_embeddings()
    logits = head(torch.ones(5, model.config.hidden_size))
    assert len(head.weight) == 400
    assert logits.shape == (5, 448)
    assert (logits[:, 400:] == -torch.inf).all()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_hidden_places_are_filled_up_by_what_foretells_nothing():
    targets = np.array([[IGNORED, 7, IGNORED], [8, IGNORED, 9]])
    places, wanted = hidden_places(targets, 4)
    assert places.tolist() == [1, 3, 5, 0]
    assert wanted.tolist() == [7, 8, 9, IGNORED]
    assert [part.tolist() for part in hidden_places(targets)] == [[1, 3, 5], [7, 8, 9]]


def test_the_published_pair_has_68_million_parameters_each(tokenizer):
    # As large as RoBERTa-base's vocabulary.
    padded = copy.deepcopy(tokenizer)
    padded.add_tokens([f"<{n}>" for n in range(50_265 - len(tokenizer))])
    counts = {}
    for kind, shape in KINDS:
        with torch.device("meta"):
            model = build(kind, Pretraining(decoder_shape=shape), padded)
        counts[kind, shape] = model.num_parameters()
    assert counts["encoder", "roberta"] == counts["decoder", "roberta"] == 67_994_457
    assert counts["decoder", "llama"] == pytest.approx(68e6, rel=0.02)


def test_encoder_and_decoder_of_one_shape_begin_with_the_same_weights(smallest, tokenizer):
    encoder, decoder = (build(kind, smallest, tokenizer) for kind in ("encoder", "decoder"))
    ours, others = encoder.state_dict(), decoder.state_dict()
    assert ours.keys() == others.keys()
    assert all(torch.equal(ours[name], others[name]) for name in ours)


def test_fifteen_in_a_hundred_ordinary_tokens_are_hidden_as_bert_does(tokenizer):
    tokens = np.random.default_rng(1).integers(0, 400, (200, 500))
    seen, targets = mask_tokens(tokens, tokenizer, 0.15, np.random.default_rng(2))
    special = np.isin(tokens, tokenizer.all_special_ids)
    chosen = targets != IGNORED
    assert not chosen[special].any()
    assert (targets[chosen] == tokens[chosen]).all()
    assert (seen[~chosen] == tokens[~chosen]).all()
    # 100,000 draws: three standard deviations of a share are below 0.004, of a share of 15% 0.01.
    assert chosen[~special].mean() == pytest.approx(0.15, abs=0.004)
    assert (seen[chosen] == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.012)
    assert (seen[chosen] == tokens[chosen]).mean() == pytest.approx(0.1, abs=0.012)


def test_something_is_hidden_even_in_the_shortest_text(tokenizer):
    tokens = np.array([[tokenizer.bos_token_id, 77, tokenizer.eos_token_id]])
    for seed in range(5):
        _, targets = mask_tokens(tokens, tokenizer, 1e-9, np.random.default_rng(seed))
        assert targets.tolist() == [[IGNORED, 77, IGNORED]]
