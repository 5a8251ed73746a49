"""Shortened decoder blocks compute what stock ones do, and only what is known is shortened."""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from unmask import attention, fusing
from unmask.config import UnmaskConfig
from unmask.data.alignment import EncodedSentence
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import pack

CONFIG = UnmaskConfig.from_code("0110", 4)
WHOLE = {"llama", "mistral", "mistral-window", "qwen2", "qwen2-window", "qwen3", "smollm3"}
"""Families of which norms, activations and rotation are all Llama's."""


def sentence(*token_ids):
    return EncodedSentence("s", token_ids, tuple(range(len(token_ids))), (1,) * len(token_ids), 0)


BATCH = pack([[sentence(5, 6, 7, 8, 9, 10, 11), sentence(3), sentence(4, 9, 4)]], [CONFIG.causal])


def states(model, batch=BATCH):
    """Last hidden states of a pack and the gradient of its embeddings."""
    embeddings = model.get_input_embeddings()(batch.token_ids).detach().requires_grad_()
    hidden = model(
        inputs_embeds=embeddings[None],
        position_ids=batch.position_ids[None],
        packed=batch,
        use_cache=False,
    ).last_hidden_state[0]
    above = torch.linspace(-1, 1, hidden.numel()).view_as(hidden)
    return hidden.detach(), torch.autograd.grad((hidden * above).sum(), embeddings)[0]


@pytest.fixture
def prepared(build):
    """`prepared(family)`: a frozen random decoder with its attention replaced."""

    def prepare(family):
        model = build(family).requires_grad_(False)
        attention.install(model, CONFIG)
        return model

    return prepare


def shortened(model):
    return {type(module).__name__ for module in model.modules() if "forward" in vars(module)}


def test_a_shortened_pack_of_all_16_configurations_gives_what_the_stock_one_gives(prepared, family):
    model = prepared(family)
    expected = states(model)
    fusing.fuse(model, lambda: BATCH.max_seqlen)
    assert shortened(model) or family.startswith(("olmo", "gemma3"))
    for actual, right in zip(states(model), expected, strict=True):
        # float32, four layers with wide weights.
        gap = (actual - right).abs().max() / right.abs().max()
        assert gap < 2e-5


def test_what_is_shortened_in_every_family(prepared, family):
    model = prepared(family)
    fusing.fuse(model, lambda: None)
    endings = ("Norm", "MLP", "Attention", "Embedding")
    kinds = {kind for name in shortened(model) for kind in endings if name.endswith(kind)}
    if family in WHOLE:
        assert kinds == {"Norm", "MLP", "Attention", "Embedding"}
    elif family == "gemma2":  # gelu in its gate, one more in its norm's weight
        assert kinds == {"Attention", "Embedding"}


def test_a_padded_call_is_the_stock_one_bit_for_bit(prepared):
    model = prepared("llama")
    tokens = torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    expected = model(input_ids=tokens, attention_mask=mask).last_hidden_state
    fusing.fuse(model, lambda: None)
    assert torch.equal(model(input_ids=tokens, attention_mask=mask).last_hidden_state, expected)


def test_undoing_leaves_the_stock_model(prepared):
    model = prepared("llama")
    names = [name for name, _ in model.named_modules()]
    undo = fusing.fuse(model, lambda: BATCH.max_seqlen)
    assert [name for name, _ in model.named_modules()] == names
    undo()
    assert shortened(model) == set()
    assert "rotary_tables" not in {key for module in model.modules() for key in vars(module)}


def test_a_block_that_computes_something_else_stays_as_it_is(prepared):
    class OneMore(LlamaRMSNorm):
        def forward(self, hidden_states):
            return super().forward(hidden_states) + 1

    model = prepared("llama")
    model.norm = OneMore(32)
    model.layers[0].mlp.act_fn = torch.nn.GELU()
    fusing.fuse(model, lambda: None)
    assert "forward" not in vars(model.norm)
    assert "forward" not in vars(model.layers[0].mlp)
    assert "forward" in vars(model.layers[1].mlp)


def test_a_rotation_of_part_of_a_head_is_left_to_the_model(prepared):
    model = prepared("llama")
    model.rotary_emb.inv_freq = model.rotary_emb.inv_freq[:-1]
    fusing.fuse(model, lambda: None)
    assert shortened(model) == {"LlamaRMSNorm", "LlamaMLP"}


def test_bytecode_tells_formulas_apart_but_not_their_documentation():
    def double(x):
        """Twice."""
        return x * 2

    def documented(x):
        """Two times."""
        return x * 2

    def triple(x):
        """Twice."""
        return x * 3

    assert fusing._same(double, documented)
    assert not fusing._same(double, triple)
    assert not fusing._same(LlamaMLP.forward, LlamaRMSNorm.forward)


def test_a_released_backbone_is_stock(load_random):
    model = UnmaskedForTokenClassification(load_random(), ["PER"], [CONFIG])
    assert shortened(model.backbone)
    assert shortened(model.release().model) == set()
