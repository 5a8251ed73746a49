from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from unmask.backbones import quiet_transformers
from unmask.config import UnmaskConfig
from unmask.data.tasks import load_task
from unmask.results.ledger import Ledger
from unmask.results.run import Run
from unmask.scale.finetune import Checkpoint, codes, finetune, fit, missing, planned, variant_of
from unmask.scale.labeler import FullLabeler, load_checkpoint
from unmask.scale.pretrain import pretrain
from unmask.scale.settings import SMALL_FINETUNING
from unmask.training.batches import encode_split

TWO_EPOCHS = replace(SMALL_FINETUNING, epochs=2)
MODELS = (("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama"))


def stock_model(folder):
    with quiet_transformers():
        return AutoModel.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def corpus():
    return load_task("lookright", limit_train=48, limit_validation=20)


@pytest.fixture(scope="module")
def checkpoints(smallest, tokens, tokenizer, tmp_path_factory):
    """The untrained and the last checkpoint of each kind, the decoder in both shapes."""
    found = {}
    for kind, shape in MODELS:
        folder = tmp_path_factory.mktemp(f"{kind}-{shape}")
        settings = replace(smallest, decoder_shape=shape)
        pretrain(kind, settings, tokens.chunks(64), tokenizer, folder, "r")
        found[kind, shape] = Checkpoint(kind, "0123abcd", 4, folder / "04")
    return found


@pytest.mark.parametrize("shape", ["roberta", "llama"])
@pytest.mark.parametrize("code", ["00", "11", "01"])
def test_each_layer_of_a_decoder_sees_what_its_code_says(checkpoints, shape, code):
    loaded = load_checkpoint(checkpoints["decoder", shape].folder, "x")
    model = FullLabeler(loaded, ["PER"], UnmaskConfig.from_code(code, 2), 1, 0.1).eval()
    proof = model.verify_mask()
    assert proof.agrees
    assert [layer.looks_right for layer in proof.layers] == [bit == "1" for bit in code]


@pytest.mark.parametrize(
    "kind", [("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama")]
)
def test_states_without_a_changed_mask_are_those_of_the_stock_model(checkpoints, corpus, kind):
    loaded = load_checkpoint(checkpoints[kind].folder, "x")
    opens = kind[0] == "encoder"
    model = FullLabeler(loaded, corpus.labels, UnmaskConfig((opens,) * 2), 1, 0.1).eval()
    sentences = encode_split(corpus.train[:5], model.encoder, model.tags, 64)
    stock = stock_model(checkpoints[kind].folder)
    with torch.no_grad():
        packed = model.hidden_states(model.batch(sentences))
        alone = [
            stock(input_ids=torch.tensor([s.token_ids])).last_hidden_state[0] for s in sentences
        ]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_every_parameter_is_trained_and_the_checkpoint_stays_as_it_was(checkpoints, corpus):
    checkpoint = checkpoints["decoder", "roberta"]
    loaded = load_checkpoint(checkpoint.folder, checkpoint.name)
    model = FullLabeler(loaded, corpus.labels, UnmaskConfig.from_code("11", 2), 120, 0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train = encode_split(corpus.train, model.encoder, model.tags, 64)
    fit(model, train, TWO_EPOCHS, 120)
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    again = load_checkpoint(checkpoint.folder, checkpoint.name)
    name = "encoder.layer.0.output.dense.weight"
    assert torch.equal(again.model.state_dict()[name], before[f"backbone.{name}"])


def test_a_run_gives_the_same_twice_and_its_loss_falls(checkpoints, corpus):
    checkpoint = checkpoints["encoder", "roberta"]
    recipe = replace(SMALL_FINETUNING, epochs=5, learning_rate=1e-2)
    run = Run(checkpoint.name, "lookright", "encoder", 120, recipe, corpus.fingerprint())
    one, other = (finetune(checkpoint, run, corpus, "cpu") for _ in range(2))
    assert one.curves == other.curves
    assert one.scores == other.scores
    assert one.status == "finished"
    losses = one.curves["train_loss"]
    assert len(losses) == 15
    assert losses[-1] < 0.8 * losses[0]
    assert one.scores["validation"]["mode"] == "strict"
    assert one.timings["train_tokens"] > 48 * 5


def test_the_plan_has_three_variants_and_loses_what_is_done(corpus, tmp_path):
    pair = [Checkpoint(kind, "0123abcd", 0, Path()) for kind in ("encoder", "decoder")]
    plan = list(planned(pair, 4, "lookright", (120, 121), SMALL_FINETUNING, "f"))
    assert [run.config for _, run in plan] == ["encoder"] * 2 + ["0000"] * 2 + ["1111"] * 2
    assert {variant_of(run) for _, run in plan} == {
        "encoder",
        "decoder with mask",
        "decoder without mask",
    }
    assert len({run.id for _, run in plan}) == 6
    assert missing(Ledger(tmp_path / "none.jsonl"), plan) == plan
    assert codes("decoder", 2) == ("00", "11")


def test_a_missing_checkpoint_says_which_command_makes_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run `python -m unmask\.scale pretrain` first"):
        load_checkpoint(tmp_path, "x")


def test_untrained_encoder_and_open_decoder_are_one_model(
    corpus, smallest, tokens, tokenizer, tmp_path
):
    """Their first weights are the same, so only what pre-training does can tell them apart."""
    chunks = tokens.chunks(64)
    settings = replace(smallest, recipe=replace(smallest.recipe, max_steps=1))
    results = []
    for kind, code in (("encoder", "encoder"), ("decoder", "11")):
        pretrain(kind, settings, chunks, tokenizer, tmp_path / kind, "r")
        checkpoint = Checkpoint(kind, "0123abcd", 0, tmp_path / kind / "00")
        run = Run(checkpoint.name, "lookright", code, 120, TWO_EPOCHS, "f")
        results.append(finetune(checkpoint, run, corpus, "cpu"))
    assert results[0].curves == results[1].curves
