"""What people do to any `torch.nn.Module`, done to a labeler."""

import copy

import pytest
import torch

from unmask import UnmaskedForTokenClassification

IDS = torch.arange(5, 37).reshape(2, 16)
LABELS = IDS % 5
TEXT = "Velmora , a river in the north , froze early"


@pytest.mark.parametrize("cast", ["half", "bfloat16", "float", "double"])
def test_a_cast_labeler_computes_and_knows_its_dtype(random_labeler, cast):
    labeler = random_labeler()
    expected = labeler(IDS).logits
    getattr(labeler, cast)()
    dtype = next(labeler.parameters()).dtype
    output = labeler(IDS, labels=LABELS)
    output.loss.backward()
    assert labeler.loaded.dtype == output.logits.dtype == dtype
    assert {p.grad.dtype for p in labeler.stacked_parameters().values()} == {dtype}
    assert labeler.predict(TEXT)
    # Unit round-offs of 2**-8 and 2**-11 through eight layers, against logits of order 10.
    tolerance = {"half": 0.2, "bfloat16": 1.5}.get(cast, 1e-4)
    assert (output.logits - expected).abs().max() < tolerance


@pytest.mark.parametrize("order", [("bfloat16",), ("double",), ("bfloat16", "float"), ("half",)])
def test_a_cast_labeler_is_saved_so_that_it_loads(random_labeler, tmp_path, order):
    labeler = random_labeler()
    for cast in order:
        getattr(labeler, cast)()
    labeler.save_pretrained(tmp_path)
    again = UnmaskedForTokenClassification.from_pretrained(tmp_path, dtype=labeler.loaded.dtype)
    assert torch.equal(again.backbone.embed_tokens.weight, labeler.backbone.embed_tokens.weight)
    assert torch.equal(
        again.lora_layers[0][1].lora_A,
        labeler.lora_layers[0][1].lora_A.to(again.lora_layers[0][1].lora_A),
    )


def test_a_labeler_loaded_in_a_wider_dtype_is_saved_so_that_it_loads(tmp_path):
    first = UnmaskedForTokenClassification.from_pretrained("tiny", ["A"], "0110", dtype="bfloat16")
    first.save_pretrained(tmp_path / "first")
    wider = UnmaskedForTokenClassification.from_pretrained(tmp_path / "first", dtype="float32")
    wider.save_pretrained(tmp_path / "second")
    again = UnmaskedForTokenClassification.from_pretrained(tmp_path / "second", dtype="float32")
    assert torch.equal(again(IDS).logits, wider(IDS).logits)


def test_casting_four_bit_weights_is_refused_and_changes_nothing(random_labeler):
    labeler = random_labeler(quantization="nf4")
    expected = labeler(IDS).logits
    with pytest.raises(ValueError, match=r"is quantised \(nf4\) and computes in torch.float32"):
        labeler.half()
    assert torch.equal(labeler(IDS).logits, expected)


def test_a_trained_backbone_is_not_saved_without_what_it_learned(random_labeler, tmp_path):
    labeler = random_labeler().train().requires_grad_(True)
    labeler(IDS, labels=LABELS).loss.backward()
    torch.optim.SGD(labeler.parameters(), lr=0.1).step()
    labeler.bfloat16()
    with pytest.raises(
        ValueError, match="the weights of the backbone are no longer those that wer"
    ):
        labeler.save_pretrained(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_unfreezing_all_gives_the_gradients_of_finite_differences(random_labeler):
    labeler = random_labeler(dtype="float64").requires_grad_(True)
    labeler(IDS, labels=LABELS).loss.backward()
    step = 1e-3  # norms are computed in float32, whose noise a smaller step would show
    for name in (
        "embed_tokens.weight",
        "layers.3.mlp.up_proj.weight",
        "layers.5.self_attn.q_proj.base.weight",
    ):
        weight = labeler.backbone.get_parameter(name)
        place = int(weight.grad.abs().argmax())

        def loss_at(moved, weight=weight, place=place):
            with torch.no_grad():
                weight.view(-1)[place] += moved
                loss = labeler(IDS, labels=LABELS).loss
                weight.view(-1)[place] -= moved
            return float(loss)

        slope = (loss_at(step) - loss_at(-step)) / (2 * step)
        assert float(weight.grad.view(-1)[place]) == pytest.approx(slope, rel=1e-2), name


def test_training_after_merging_is_refused(random_labeler):
    labeler = random_labeler()
    labeler.merge()
    labeler(IDS, labels=LABELS)
    with pytest.raises(
        ValueError, match="the adapters are merged into this backbone, so only the h"
    ):
        labeler.train()(IDS, labels=LABELS)


@pytest.mark.parametrize(
    "given",
    [
        {"input_ids": IDS[0]},
        {"input_ids": IDS, "attention_mask": torch.ones(2, 10)},
        {"input_ids": IDS, "labels": LABELS[:, :10]},
    ],
    ids=["no-batch", "mask", "labels"],
)
def test_shapes_that_do_not_fit_are_named(random_labeler, given):
    with pytest.raises(
        ValueError, match=r"takes tensors of one shape \[batch, length\], got \{'in"
    ):
        random_labeler()(**given)


def test_copies_for_data_parallel_are_refused(random_labeler):
    """On several devices `torch.nn.DataParallel` asks every module for such a copy."""
    with pytest.raises(RuntimeError, match="start a process for each device"):
        random_labeler()._replicate_for_data_parallel()


def test_prediction_in_inference_mode_leaves_it_trainable(random_labeler):
    labeler = random_labeler()
    twin = copy.deepcopy(labeler)
    with torch.inference_mode():
        spans, logits = labeler.predict(TEXT), labeler(IDS).logits
    assert spans == twin.predict(TEXT)
    assert torch.equal(logits, twin(IDS).logits)
    for model in (labeler, twin):
        model.train()(IDS, labels=LABELS).loss.backward()
    assert torch.equal(labeler.score_weight.grad, twin.score_weight.grad)


def test_a_state_dict_carries_everything_that_was_learned(random_labeler):
    trained = random_labeler()
    fresh = UnmaskedForTokenClassification.from_pretrained("tiny", list(trained.labels), "0110")
    assert not torch.equal(fresh(IDS).logits, trained(IDS).logits)
    fresh.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(fresh(IDS).logits, trained(IDS).logits)
