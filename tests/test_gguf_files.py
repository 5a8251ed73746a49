"""What transformers does with a GGUF file, in less time and with less noise."""

from typing import Any

import gguf
import pytest
from transformers import modeling_gguf_pytorch_utils

from unmask.backbones import find_weights, load_backbone
from unmask.gguf_files import read_once


def test_a_backbone_is_read_once(monkeypatch):
    weights = find_weights("smollm2-135m")
    if weights.gguf_file is None:
        pytest.skip("the weights come from a hub, not from a GGUF file")
    files, original = [], gguf.GGUFReader.__init__

    def spy(self, path, *rest):
        files.append(str(path))
        original(self, path, *rest)

    monkeypatch.setattr(gguf.GGUFReader, "__init__", spy)
    loaded = load_backbone("smollm2-135m", "float32", device="cpu")
    assert len(files) == 1
    assert files[0].endswith(weights.gguf_file)
    assert loaded.model.config.num_hidden_layers == 30
    assert len(loaded.tokenizer) == 49152


def test_afterwards_everything_is_as_it_was_also_when_reading_failed():
    part: Any = modeling_gguf_pytorch_utils
    before = gguf.GGUFReader, gguf.get_tensor_name_map, part.tqdm
    inside = []

    def read():
        with read_once():
            inside.append(gguf.GGUFReader)
            raise KeyError

    with pytest.raises(KeyError):
        read()
    assert inside[0] is not before[0]
    assert (gguf.GGUFReader, gguf.get_tensor_name_map, part.tqdm) == before


def test_the_bar_keeps_out_of_logs(capsys):
    part: Any = modeling_gguf_pytorch_utils
    with read_once():
        assert list(part.tqdm(range(3), desc="Converting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
    list(part.tqdm(range(3), desc="Converting"))
    assert "Converting" in capsys.readouterr().err
