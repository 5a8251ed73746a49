"""Adapters of many runs: the route that serves them, and dropout that depends on nothing else."""

import math

import pytest
import torch
from torch import nn

from unmask.backbones import recomputing
from unmask.config import UnmaskConfig
from unmask.data.alignment import EncodedSentence
from unmask.lora import GroupedLoRALinear, LoraSettings, inject
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import pack
from unmask.route import Draw, Route

NUM_LAYERS = 4
CODES = ("0110", "1111", "0000")


def encoded(token_ids):
    ids = tuple(token_ids)
    return EncodedSentence("s", ids, tuple(range(len(ids))), (1,) * len(ids), 0)


def pack_of(*counts):
    """One sentence of so many tokens per run."""
    sentences = [[encoded([5] * count)] if count else [] for count in counts]
    return pack(sentences, [[True]] * len(counts))


def mask(counts, draw, probability=0.1, features=65, module=0):
    route = Route()
    route.add_dropout(module)
    batch = pack_of(*counts)
    with route(batch, draw):
        return route.dropout(torch.ones(sum(counts), features), probability, module) > 0


def correlation(a, b):
    return abs(torch.corrcoef(torch.stack([a.flatten().float(), b.flatten().float()]))[0, 1].item())


# 400 tokens of 65 features: 26,000 draws, standard error of a rate 0.0031 at most, of a
# correlation 0.0062; bounds at five standard errors.
MANY, RATE_BOUND, CORRELATION_BOUND = 400, 0.016, 0.031


@pytest.mark.parametrize("probability", [0.01, 0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_rescales_the_rest(probability):
    route = Route()
    route.add_dropout(0)
    with route(pack_of(MANY), Draw((120,), (0,))):
        out = route.dropout(torch.full((MANY, 65), 2.0), probability, module=0)
    assert abs((out == 0).float().mean().item() - probability) < RATE_BOUND
    torch.testing.assert_close(out[out != 0].unique(), torch.tensor([2 / (1 - probability)]))


@pytest.mark.parametrize(
    "other",
    [
        {"draw": Draw((120,), (1,))},
        {"draw": Draw((120,), (1000,))},
        {"draw": Draw((121,), (0,))},
        {"draw": Draw((0,), (120,))},
        {"module": 1},
        {"module": 1_000_000},
    ],
    ids=str,
)
def test_masks_of_other_steps_seeds_and_modules_are_independent(other):
    settings = {"draw": Draw((120,), (0,)), "module": 0, "probability": 0.5}
    first = mask([MANY], **settings)
    second = mask([MANY], **{**settings, **other})
    assert correlation(first, second) < CORRELATION_BOUND


def test_places_within_a_mask_are_independent():
    kept = mask([MANY], Draw((120,), (0,)), probability=0.5)
    assert correlation(kept[:, 1:], kept[:, :-1]) < CORRELATION_BOUND
    assert correlation(kept[:, 2:], kept[:, :-2]) < CORRELATION_BOUND
    assert correlation(kept[1:], kept[:-1]) < CORRELATION_BOUND
    per_feature = kept.float().mean(dim=0)
    assert (per_feature - 0.5).abs().max() < 5 * 0.5 / math.sqrt(MANY)


def test_a_run_draws_the_same_mask_alone_and_fused():
    fused = mask([7, 0, 30, 4], Draw((1, 2, 3, 4), (9, 8, 7, 6)))
    assert torch.equal(fused[:7], mask([7], Draw((1,), (9,))))
    assert torch.equal(fused[7:37], mask([30], Draw((3,), (7,))))
    assert torch.equal(fused[37:], mask([4], Draw((4,), (6,))))


def test_parts_of_a_micro_batch_draw_what_the_whole_draws():
    whole = mask([30, 9], Draw((1, 2), (3, 3)))
    begin, end = mask([12, 9], Draw((1, 2), (3, 3))), mask([18, 0], Draw((1, 2), (3, 3), (12, 9)))
    assert torch.equal(torch.cat([begin[:12], end, begin[12:]]), whole)


def test_masks_do_not_touch_or_follow_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = mask([9], Draw((1,), (1,)))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(first, mask([9], Draw((1,), (1,))))


def test_without_a_draw_nothing_is_dropped():
    assert mask([9], None, probability=0.9).all()


@pytest.fixture
def stack(load_random):
    """Three runs in float64 with dropout, on a fresh random Llama."""
    return make_stack(load_random)


def make_stack(load_random, seeds=(1, 2, 3), codes=CODES):
    configs = [UnmaskConfig.from_code(code, NUM_LAYERS) for code in codes]
    model = UnmaskedForTokenClassification(
        load_random(torch.float64), ["PER"], configs, LoraSettings(rank=2, dropout=0.3), seeds
    )
    generator = torch.Generator().manual_seed(5)
    for _, layer in model.lora_layers:  # B starts at zero, where A gets no gradient
        fill = torch.randn(layer.lora_B.shape, generator=generator, dtype=torch.float64)
        layer.lora_B.data.copy_(fill)
    return model.train()


DRAW = Draw((1, 2, 3), (4, 5, 6))
SENTENCES = [[encoded([5, 6, 7])], [encoded([8, 9]), encoded([4])], [encoded([3, 5, 9, 7])]]
OTHER_SENTENCES = [[encoded([5, 6, 7, 8])], [encoded([8, 9])], [encoded([3, 5, 9, 7])]]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.stacked_parameters().items()}


def backward_while_held(model):
    model.zero_grad()
    batch = model.batch(SENTENCES)
    with model.route(batch, DRAW):
        model.losses(batch).sum().backward()


def backward_after_leaving(model):
    batch = model.batch(SENTENCES)
    with model.route(batch, DRAW):
        loss = model.losses(batch).sum()
    loss.backward()


def backward_in_another_route(model):
    batch = model.batch(SENTENCES)
    with model.route(batch, DRAW):
        loss = model.losses(batch).sum()
    with model.route(model.batch(OTHER_SENTENCES), DRAW):
        loss.backward()


def backward_of_plain_states_in_another_route(model):
    """The same without the loss, which has a guard of its own."""
    batch = model.batch(SENTENCES)
    with model.route(batch, DRAW):
        states = model.hidden_states(batch)
    with model.route(model.batch(OTHER_SENTENCES), DRAW):
        states.sum().backward()


checkpointing = pytest.mark.parametrize("use_reentrant", [True, False], ids=["reentrant", "not"])


@checkpointing
def test_a_route_held_through_backward_gives_exact_gradients(stack, use_reentrant):
    backward_while_held(stack)
    expected = gradients(stack)
    recomputing(stack.backbone, "enable")({"use_reentrant": use_reentrant})
    backward_while_held(stack)
    for name, gradient in gradients(stack).items():
        assert gradient.abs().max() > 0
        assert torch.equal(gradient, expected[name]), name


@checkpointing
@pytest.mark.parametrize(
    "misuse",
    [
        backward_after_leaving,
        backward_in_another_route,
        backward_of_plain_states_in_another_route,
    ],
)
def test_every_other_use_under_checkpointing_raises(stack, use_reentrant, misuse):
    recomputing(stack.backbone, "enable")({"use_reentrant": use_reentrant})
    with pytest.raises(RuntimeError, match=r"run backward inside the same `with model\.route"):
        misuse(stack)


@pytest.mark.parametrize("misuse", [backward_after_leaving, backward_in_another_route])
def test_a_loss_outside_its_route_raises_without_checkpointing_too(stack, misuse):
    with pytest.raises(RuntimeError, match="the route of the forward pass is no longer held"):
        misuse(stack)


def test_entering_twice_raises_and_the_first_route_stays(stack):
    batch = stack.batch(SENTENCES)
    with stack.route(batch):
        with pytest.raises(RuntimeError, match="already entered: one batch at a time"):
            stack.route(batch).__enter__()
        assert stack.route.batch is batch


def test_an_error_inside_leaves_the_route_free(stack):
    batch = stack.batch(SENTENCES)
    with pytest.raises(KeyError), stack.route(batch):
        raise KeyError
    with stack.route(batch):
        stack.losses(batch)


def test_a_layer_without_route_raises(stack):
    with pytest.raises(RuntimeError, match=r"no route: call the model inside `with model\.route"):
        stack.backbone(input_ids=torch.tensor([[5, 6]]))


def test_another_batch_than_the_route_s_is_refused(stack):
    with (
        stack.route(stack.batch(SENTENCES)),
        pytest.raises(RuntimeError, match="entered with another batch"),
    ):
        stack.losses(stack.batch(OTHER_SENTENCES))


def test_gradients_of_a_run_are_those_it_has_alone(load_random, stack):
    """Ragged runs, dropout, three configurations; float64, sums in another order."""
    backward_while_held(stack)
    fused = gradients(stack)
    for run in range(3):
        alone = make_stack(load_random, [run + 1], [CODES[run]])
        for name, parameter in alone.stacked_parameters().items():
            parameter.data.copy_(stack.stacked_parameters()[name].data[run : run + 1])
        batch = alone.batch([SENTENCES[run]])
        with alone.route(batch, Draw((run + 1,), (run + 4,))):
            alone.losses(batch).sum().backward()
        for name, gradient in gradients(alone).items():
            torch.testing.assert_close(gradient[0], fused[name][run], atol=1e-13, rtol=1e-10)


def test_a_run_starts_the_same_alone_and_fused(load_random):
    configs = [UnmaskConfig.from_code(code, NUM_LAYERS) for code in CODES]
    fused = UnmaskedForTokenClassification(
        load_random(), ["PER"], configs, LoraSettings(rank=2), seeds=[1, 2, 3]
    )
    alone = UnmaskedForTokenClassification(
        load_random(), ["PER"], configs[1:2], LoraSettings(rank=2), seeds=[2]
    )
    for name, tensor in alone.run_parameters(0).items():
        assert torch.equal(tensor, fused.run_parameters(1)[name]), name
        if name.endswith(("lora_A", "score.weight")):
            assert not torch.equal(tensor, fused.run_parameters(0)[name]), name


def lora_layer(base, index=0, **changes):
    settings = [LoraSettings(**{"rank": 16, "alpha": 4, "dropout": 0.0, **changes})]
    features = (base.in_features, base.out_features)
    generators = [torch.Generator().manual_seed(0)]
    return GroupedLoRALinear(base, features, settings, Route(), index, generators, torch.float64)


def test_adapters_start_as_peft_starts_them():
    layer = lora_layer(nn.Linear(100, 8))
    assert (layer.lora_B == 0).all()
    bound = 1 / math.sqrt(100)
    assert layer.lora_A.abs().max() <= bound
    # 1600 uniform draws: standard deviation bound / sqrt(3), known to about 2%.
    assert abs(layer.lora_A.std().item() / (bound / math.sqrt(3)) - 1) < 0.1


def test_the_update_is_scaled_by_alpha_over_rank_and_merges_exactly():
    base = nn.Linear(6, 5, bias=False, dtype=torch.float64)
    layer = lora_layer(base, rank=4, alpha=6)
    layer.lora_B.data.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(7, 6, dtype=torch.float64)
    with layer.route(pack_of(7)):
        out = layer(x)
    expected = base(x) + 1.5 * (x @ layer.lora_A[0].T @ layer.lora_B[0].T)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x @ layer.merged_weight(base.weight, run=0).T, expected)


def test_runs_of_other_rank_and_scaling_compute_in_a_stack_what_they_compute_alone():
    base = nn.Linear(6, 5, bias=False, dtype=torch.float64)
    each = [LoraSettings(2, 4, 0.3), LoraSettings(5, 3, 0.3), LoraSettings(1, 7, 0.3)]
    counts, seeds = (4, 0, 7), (1, 2, 3)

    def layer_of(settings, seeds):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        made = GroupedLoRALinear(base, (6, 5), settings, Route(), 3, generators, torch.float64)
        for run, seed in enumerate(seeds):
            made.matrices(run)[1].data.normal_(generator=torch.Generator().manual_seed(seed))
        return made.train()

    x = torch.randn(sum(counts), 6, dtype=torch.float64)
    stack = layer_of(each, seeds)
    with stack.route(pack_of(*counts), Draw(seeds, (7, 8, 9))):
        fused = stack(x)
    for run, rows in ((0, slice(0, 4)), (2, slice(4, 11))):
        alone = layer_of([each[run]], [seeds[run]])
        for own, same in zip(stack.matrices(run), alone.matrices(0), strict=True):
            assert torch.equal(own, same)
        with alone.route(pack_of(counts[run]), Draw((seeds[run],), (7 + run,))):
            expected = alone(x[rows])
        torch.testing.assert_close(fused[rows], expected, atol=1e-14, rtol=1e-13)
        assert not torch.equal(expected, base(x[rows]))
        merged = stack.merged_weight(base.weight, run)
        torch.testing.assert_close(merged, alone.merged_weight(base.weight, 0))


def test_inject_numbers_layers_input_side_first(stack):
    names = [name for name, _ in stack.lora_layers]
    assert names == [
        f"layers.{layer}.self_attn.{target}"
        for layer in range(NUM_LAYERS)
        for target in ("q_proj", "v_proj")
    ]
    assert [layer.index for _, layer in stack.lora_layers] == list(range(8))


def test_targets_that_name_no_layer_are_refused_with_those_there_are(build):
    with pytest.raises(
        ValueError, match=r"LoRA targets \['query'\] name no layer of LlamaModel; its .*'q_proj'"
    ):
        inject(build("llama"), ["v_proj", "query"], lambda base, features, index: lora_layer(base))


@pytest.mark.parametrize(
    "changes", [{"rank": 0}, {"alpha": 0}, {"dropout": 1.0}, {"targets": ()}], ids=str
)
def test_settings_that_make_no_adapter_are_refused(changes):
    with pytest.raises(ValueError, match="makes no adapter: rank must be at least 1"):
        LoraSettings(**changes)
