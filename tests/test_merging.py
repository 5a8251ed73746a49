from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from transformers import AutoModelForTokenClassification

from unmask import UnmaskedForTokenClassification
from unmask.merging import load_merged

TEXT = "Velmora , a river in the north , froze early"

ROUNDING: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
"""Folding adds float32 matrices that were multiplied apart before; wrong weights differ by 1."""


def logits(model, labeler) -> torch.Tensor:
    ids = torch.tensor([labeler.encoder.encode_words(TEXT.split(), 64).token_ids])
    with torch.no_grad():
        return model(ids).logits


def test_merging_keeps_what_is_computed_and_drops_the_adapters(random_labeler):
    labeler = random_labeler()
    before = logits(labeler, labeler)
    labeler.merge()
    assert not any("lora" in name for name, _ in labeler.named_parameters())
    torch.testing.assert_close(logits(labeler, labeler), before, **ROUNDING)
    labeler.merge()
    torch.testing.assert_close(logits(labeler, labeler), before, **ROUNDING)


def test_after_a_merged_block_the_labeler_is_bit_for_bit_what_it_was(random_labeler):
    labeler = random_labeler()
    before = logits(labeler, labeler)
    with labeler.merged():
        assert labeler.is_merged
        assert not labeler.lora_layers
    assert not labeler.is_merged
    assert torch.equal(logits(labeler, labeler), before)
    assert len(labeler.run_parameters(0)) == 2 * len(labeler.lora_layers) + 2


def test_a_merged_labeler_still_proves_its_mask(random_labeler):
    labeler = random_labeler("1001")
    labeler.merge()
    assert labeler.verify_mask().agrees


def test_a_merged_labeler_can_be_neither_saved_as_an_adapter_nor_released(random_labeler, tmp_path):
    labeler = random_labeler()
    labeler.merge()
    with pytest.raises(ValueError, match="cannot be saved by themselves: use merge_and_save"):
        labeler.save_pretrained(tmp_path)
    assert not (tmp_path / "unmask_config.json").exists()
    with pytest.raises(ValueError, match="merged into this backbone: load it again"):
        labeler.release()


@pytest.mark.parametrize("code", ["0000", "1111"])
def test_stock_transformers_gives_what_it_can_mask_by_itself(random_labeler, tmp_path, code):
    labeler = random_labeler(code)
    labeler.merge_and_save(tmp_path)
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert plain.config._attn_implementation == "sdpa"
    torch.testing.assert_close(logits(plain, labeler), logits(labeler, labeler), **ROUNDING)
    assert "transformers alone gives this model the mask" in (tmp_path / "README.md").read_text()


def test_single_open_layers_need_us_and_the_folder_says_so(random_labeler, tmp_path):
    labeler = random_labeler("0110")
    labeler.merge_and_save(tmp_path)
    ours = logits(labeler, labeler)
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert (logits(plain, labeler) - ours).abs().max() > 0.1
    torch.testing.assert_close(logits(load_merged(tmp_path), labeler), ours, **ROUNDING)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["unmask_bidirectional"] == [False] * 2 + [True] * 4 + [False] * 2
    assert config["id2label"] == {str(i): tag for i, tag in enumerate(labeler.tags)}
    readme = (tmp_path / "README.md").read_text()
    assert "Without the package `unmask` this model is causal in every layer" in readme


def test_exporting_leaves_the_labeler_as_it_was(random_labeler, tmp_path):
    labeler = random_labeler()
    before = logits(labeler, labeler)
    labeler.merge_and_save(tmp_path)
    assert torch.equal(logits(labeler, labeler), before)
    labeler.save_pretrained(tmp_path / "adapter")


def test_a_quantised_backbone_is_exported_dense(random_labeler, tmp_path):
    labeler = random_labeler("0110", quantization="nf4")
    before = logits(labeler, labeler)
    labeler.merge_and_save(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    # NF4 layers multiply in blocks of their own; the weights are the same numbers.
    torch.testing.assert_close(logits(load_merged(tmp_path), labeler), before, rtol=1e-3, atol=1e-3)


def test_an_encoder_is_exported_with_its_own_head(tmp_path):
    labeler = UnmaskedForTokenClassification.from_pretrained("minilm-l6", labels=["X"])
    with torch.no_grad():
        for _, layer in labeler.lora_layers:
            layer.lora_B.normal_(0, 0.02)
    labeler.merge_and_save(tmp_path)
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(plain, labeler), logits(labeler, labeler), **ROUNDING)


def test_a_folder_without_flags_is_refused(tmp_path):
    from unmask.backbones import find_weights

    with pytest.raises(ValueError, match="says nothing of which layers look right"):
        load_merged(find_weights("tiny").path)
