from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from unmask.route import Draw
from unmask.scale.finetune import Finetuning
from unmask.scale.plan import Checkpoint, planned
from unmask.scale.pretrain import pretrain
from unmask.scale.settings import SMALL_FINETUNING

TWO_EPOCHS = replace(SMALL_FINETUNING, epochs=2)


@pytest.fixture(scope="module")
def finetuning(corpus, tokenizer):
    """`finetuning(recipe)` on the small corpus."""
    return lambda recipe: Finetuning.of(corpus, recipe, tokenizer, "cpu")


def runs_of(checkpoint, recipe, seeds=(120, 121)):
    return [run for _, run in planned([checkpoint], 2, "lookright", seeds, recipe, "f")]


def test_a_stack_gives_what_its_runs_give_alone(checkpoints, finetuning):
    checkpoint = checkpoints["decoder", "roberta"]
    runs, train = runs_of(checkpoint, TWO_EPOCHS), finetuning(TWO_EPOCHS)
    together = train.train_stack(checkpoint, runs)
    assert [result.run for result in together] == runs
    for run, result in zip(runs, together, strict=True):
        (alone,) = train.train_stack(checkpoint, [run])
        assert result.scores == alone.scores
        # float32, six steps.
        expected = pytest.approx(alone.curves["train_loss"], abs=1e-5)
        assert result.curves["train_loss"] == expected
        assert result.timings["train_tokens"] == alone.timings["train_tokens"]
        assert result.environment == alone.environment
        assert result.status == "finished"


def test_a_stack_gives_the_same_twice_and_its_losses_fall(checkpoints, finetuning):
    checkpoint = checkpoints["encoder", "roberta"]
    recipe = replace(SMALL_FINETUNING, epochs=5, learning_rate=1e-2)
    runs = runs_of(checkpoint, recipe)
    one, other = (finetuning(recipe).train_stack(checkpoint, runs) for _ in range(2))
    assert [result.scores for result in one] == [result.scores for result in other]
    for result, again in zip(one, other, strict=True):
        losses = result.curves["train_loss"]
        assert losses == again.curves["train_loss"]
        assert len(losses) == 15
        assert losses[-1] < 0.8 * losses[0]
        assert result.scores["validation"]["mode"] == "strict"
        assert result.timings["train_tokens"] > 48 * 5
        assert result.environment["mask_proof"] == "every layer agreed"


@pytest.mark.parametrize("shape", ["roberta", "llama"])
def test_memory_is_estimated_near_what_is_kept(checkpoints, finetuning, bytes_kept, shape):
    checkpoint, whole = checkpoints["decoder", shape], replace(TWO_EPOCHS, batch_size=48)
    train, (run,) = finetuning(whole), runs_of(checkpoint, whole, seeds=(1,))[:1]
    model = train._stack(train._load(checkpoint), [run]).train()
    counted = bytes_kept(model, model.batch([train.train]), Draw((1,), (0,)))
    trained = sum(tensor.numel() for tensor in model.parameters())
    # A weight, its gradient and AdamW's two moments; the head's tensors are left out.
    expected = pytest.approx(16 * trained + counted, rel=0.25)
    assert train.cost(checkpoint).bytes_per_run == expected
    assert counted > 16 * trained, "activations hardly count, so nothing is shown"


def test_the_checkpoint_stays_as_it_was(checkpoints, finetuning):
    checkpoint = checkpoints["decoder", "llama"]
    before = load_file(checkpoint.folder / "model.safetensors")
    finetuning(TWO_EPOCHS).train_stack(checkpoint, runs_of(checkpoint, TWO_EPOCHS))
    after = load_file(checkpoint.folder / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_untrained_encoder_and_open_decoder_are_one_model(
    finetuning, smallest, tokens, tokenizer, tmp_path
):
    """Their first weights are the same, so only what pre-training does can tell them apart."""
    chunks = tokens.chunks(64)
    settings = replace(smallest, recipe=replace(smallest.recipe, max_steps=1))
    curves = []
    for kind in ("encoder", "decoder"):
        pretrain(kind, settings, chunks, tokenizer, tmp_path / kind, "r")
        checkpoint = Checkpoint(kind, "0123abcd", 0, tmp_path / kind / "00")
        runs = [run for run in runs_of(checkpoint, TWO_EPOCHS) if "0" not in run.config]
        results = finetuning(TWO_EPOCHS).train_stack(checkpoint, runs)
        curves.append([result.curves for result in results])
    assert curves[0] == curves[1]


@pytest.mark.gpu
@pytest.mark.parametrize("shape", ["roberta", "llama"])
def test_a_stack_on_a_gpu_learns_what_it_learns_on_a_cpu(checkpoints, finetuning, shape):
    """float32, six steps of Adam; plain passes at first, recorded ones after that."""
    checkpoint = checkpoints["decoder", shape]
    runs, on_cpu = runs_of(checkpoint, TWO_EPOCHS), finetuning(TWO_EPOCHS)
    curves = [
        [result.curves["train_loss"] for result in train.train_stack(checkpoint, runs)]
        for train in (on_cpu, replace(on_cpu, device="cuda"))
    ]
    for one, other in zip(*curves, strict=True):
        assert other == pytest.approx(one, abs=1e-3)
