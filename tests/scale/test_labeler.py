"""Fused runs against the same runs alone, and both against stock models in a textbook loop."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel

from unmask.attention import configuration
from unmask.backbones import quiet_transformers
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.lora import RoutedDropout
from unmask.scale.labeler import FullLabelers, load_checkpoint
from unmask.scale.settings import SMALL_FINETUNING
from unmask.training.batches import encode_split
from unmask.training.checkpoint import Progress
from unmask.training.fit import fit
from unmask.training.module import Trainee

KINDS = [("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama")]
RECIPE = replace(
    SMALL_FINETUNING, batch_size=3, accumulation=2, max_steps=20, learning_rate=1e-2, epochs=50
)


@pytest.fixture(scope="module")
def make(checkpoints, corpus):
    """`make(kind, runs, dtype)`: a fresh stack of (code, seed) pairs on a checkpoint."""

    def build(kind, runs, dtype="float64"):
        loaded = load_checkpoint(checkpoints[kind].folder, "x")
        loaded.cast(dtype)
        configs = [configuration(loaded, code) for code, _ in runs]
        return FullLabelers(loaded, corpus.labels, configs, [s for _, s in runs], 0.1, dtype)

    return build


@pytest.fixture(scope="module")
def train(make, corpus):
    """`train(kind, runs, recipe, dtype)`: a trained stack and its trainees.

    With as many sentences as the last digits of its seed say, so that windows differ too.
    """

    def run(kind, runs, recipe=RECIPE, dtype="float64", prepare=lambda model: None):
        model = make(kind, runs, dtype)
        sentences = encode_split(corpus.train, model.encoder, model.run_tags[0], 64)
        trainees = [
            Trainee(f"{seed}", seed, recipe, sentences[: seed % 100], Progress(f"{code} {seed}"))
            for code, seed in runs
        ]
        prepare(model)
        fit(model, trainees, show_progress=False)
        return model, trainees

    return run


@pytest.mark.parametrize(
    ("shape", "dtype", "tolerance"),
    # Sums in another order; Adam's steps of 0.01 keep errors relative to them.
    [("roberta", "float64", 1e-12), ("llama", "float64", 1e-12), ("roberta", "float32", 1e-4)],
)
def test_fused_runs_end_where_each_ends_alone(make, train, shape, dtype, tolerance):
    kind, runs = ("decoder", shape), [("00", 111), ("11", 111), ("11", 305)]
    recipe = replace(RECIPE, max_grad_norm=0.5)
    fused, together = train(kind, runs, recipe, dtype)
    start = make(kind, runs, dtype)
    for place, run in enumerate(runs):
        alone, (trainee,) = train(kind, [run], recipe, dtype)
        for name, tensor in alone.run_parameters(0).items():
            ours = fused.run_parameters(place)[name]
            torch.testing.assert_close(ours, tensor, atol=tolerance, rtol=0, msg=name)
            if name.endswith("key.bias"):
                continue  # it adds the same to all scores of a query, so nothing moves it
            moved = (tensor - start.run_parameters(place)[name]).abs().max()
            assert moved > 1e-3, f"{name} hardly moved, so nothing is shown"
        assert together[place].progress.steps == trainee.progress.steps == 20
        assert together[place].progress.tokens == trainee.progress.tokens
        expected = pytest.approx(trainee.progress.train_loss, abs=10 * tolerance)
        assert together[place].progress.train_loss == expected


def without_dropout(model):
    model.head_dropout = 0.0
    for module in model.modules():
        if isinstance(module, RoutedDropout):
            module.probability = 0.0


def stock_model(folder, **settings):
    with quiet_transformers():
        return AutoModel.from_pretrained(folder, dtype=torch.float32, **settings).eval()


def train_by_hand(folder, head, sentences, recipe):
    """A stock model and a linear head: padded batches of everything, PyTorch's own AdamW."""
    backbone = stock_model(folder, attn_implementation="eager").double()
    if hasattr(backbone, "pooler"):
        backbone.pooler = None
    tensors = dict(backbone.named_parameters()) | head
    optimizer = torch.optim.AdamW(
        list(tensors.values()),
        lr=recipe.learning_rate,
        betas=(recipe.beta1, recipe.beta2),
        eps=recipe.epsilon,
        weight_decay=recipe.weight_decay,
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
    longest = max(len(s.token_ids) for s in sentences)
    padding = backbone.config.pad_token_id

    def fill(rows, filler):
        return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])

    ids = fill([s.token_ids for s in sentences], padding)
    labels = fill([s.label_ids for s in sentences], IGNORED_LABEL)
    mask = fill([[1] * len(s.token_ids) for s in sentences], 0)
    for _ in range(recipe.epochs):
        states = backbone(ids, attention_mask=mask).last_hidden_state
        logits = F.linear(states, head["score.weight"], head["score.bias"])
        F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(tensors.values(), recipe.max_grad_norm)
        optimizer.step()
        cosine.step()
        optimizer.zero_grad()
    return tensors


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        (("encoder", "roberta"), 1e-11),
        (("decoder", "roberta"), 1e-11),
        # The stock norm computes in float32.
        (("decoder", "llama"), 1e-4),
    ],
)
def test_a_stack_equals_stock_models_in_a_textbook_loop(
    make, train, checkpoints, corpus, kind, tolerance
):
    recipe = replace(RECIPE, batch_size=48, accumulation=1, epochs=10, max_steps=None)
    runs = [("encoder" if kind[0] == "encoder" else "00", seed) for seed in (111, 217)]
    ours, _ = train(kind, runs, recipe, prepare=without_dropout)
    fresh = make(kind, runs)
    sentences = encode_split(corpus.train, fresh.encoder, fresh.run_tags[0], 64)
    for place, (_, seed) in enumerate(runs):
        head = {
            name: tensor.clone().requires_grad_()
            for name, tensor in fresh.run_parameters(place).items()
            if name.startswith("score.")
        }
        theirs = train_by_hand(checkpoints[kind].folder, head, sentences[: seed % 100], recipe)
        assert theirs.keys() == ours.run_parameters(place).keys()
        for name, tensor in theirs.items():
            found = ours.run_parameters(place)[name]
            torch.testing.assert_close(found, tensor.detach(), atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_states_without_a_changed_mask_are_those_of_the_stock_model(
    make, checkpoints, corpus, kind
):
    code = "encoder" if kind[0] == "encoder" else "00"
    model = make(kind, [(code, 1), (code, 2)], "float32").eval()
    sentences = encode_split(corpus.train[:5], model.encoder, model.run_tags[0], 64)
    stock = stock_model(checkpoints[kind].folder)
    batch = model.batch([sentences[:2], sentences[2:]])
    with torch.no_grad(), model.route(batch):
        packed = model.hidden_states(batch)
        alone = [
            stock(input_ids=torch.tensor([s.token_ids])).last_hidden_state[0] for s in sentences
        ]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", ["roberta", "llama"])
def test_each_layer_of_each_run_sees_what_its_code_says(make, shape):
    codes = ["00", "11", "01"]
    model = make(("decoder", shape), [(code, 1) for code in codes], "float32").eval()
    for code, proof in zip(codes, model.verify_masks(), strict=True):
        assert proof.agrees
        assert [layer.looks_right for layer in proof.layers] == [bit == "1" for bit in code]


def test_in_bfloat16_products_alone_are_rounded(checkpoints, corpus, make):
    """Against the stock model under PyTorch's autocast, which rounds the same places."""
    loaded = load_checkpoint(checkpoints["encoder", "roberta"].folder, "x")
    configs = [configuration(loaded, None)] * 2
    model = FullLabelers(loaded, corpus.labels, configs, [1, 2], 0.1, "bfloat16").eval()
    stock = stock_model(checkpoints["encoder", "roberta"].folder)
    sentences = encode_split(corpus.train[:2], model.encoder, model.run_tags[0], 64)
    batch = model.batch([[sentence] for sentence in sentences])
    with torch.no_grad(), model.route(batch):
        ours = model.hidden_states(batch)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        theirs = [
            stock(input_ids=torch.tensor([s.token_ids])).last_hidden_state[0] for s in sentences
        ]
    assert ours.dtype == torch.float32
    # States are of order 1; bfloat16 has 8 bits, and attention sums in another order.
    torch.testing.assert_close(ours, torch.cat(theirs).float(), rtol=0, atol=0.03)


def test_a_padding_token_is_never_trained(make):
    model = make(("decoder", "roberta"), [("00", 1), ("11", 2)])
    table = model.backbone.embeddings.word_embeddings
    ids = (table.padding_idx, 7, table.padding_idx)
    batch = model.batch([[], [EncodedSentence("s", ids, (0, 1, 2), (0, 1, 0), 0)]])
    with model.route(batch):
        table(batch.token_ids[None]).sum().backward()
    assert table.weight.grad[0].abs().max() == 0
    assert table.weight.grad[1].abs().sum(1).nonzero().flatten().tolist() == [7]


def test_a_run_that_is_not_finite_leaves_the_others_alone(train):
    kind, runs = ("decoder", "roberta"), [("00", 111), ("11", 111), ("11", 217)]

    def poison(model):
        # Not of the few tokens that the proof of the mask is made with.
        model.backbone.embeddings.word_embeddings.weight.data[1, 20:] = float("nan")

    healthy, _ = train(kind, runs)
    model, trainees = train(kind, runs, prepare=poison)
    assert [trainee.progress.diverged for trainee in trainees] == [False, True, False]
    assert [trainee.progress.steps for trainee in trainees] == [20, 1, 20]
    for place in (0, 2):
        for name, tensor in healthy.run_parameters(place).items():
            ours = model.run_parameters(place)[name]
            torch.testing.assert_close(ours, tensor, atol=1e-12, rtol=0, msg=name)


def test_a_missing_checkpoint_says_which_command_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run `python -m unmask\.scale pretrain` first"):
        load_checkpoint(tmp_path, "x")
