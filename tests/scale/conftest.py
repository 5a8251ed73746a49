"""A few hundred generated lines, a tokenizer trained on them, and the smallest settings."""

import random
from dataclasses import replace

import pytest

from unmask.data import lookright
from unmask.data.tasks import load_task
from unmask.scale.plan import Checkpoint
from unmask.scale.pretrain import pretrain
from unmask.scale.settings import SMALL
from unmask.scale.text import train_tokenizer, write_tokens


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory):
    """Two files of lines, one of them in a folder of its own, with blank lines between."""
    folder = tmp_path_factory.mktemp("text")
    writer = lookright.Writer(random.Random(5))
    lines = [" ".join(writer.left_decided()[0]) for _ in range(300)]
    (folder / "a.txt").write_text("\n\n".join(lines[:200]) + "\n")
    (folder / "deep").mkdir()
    (folder / "deep" / "b.txt").write_text("\n".join(lines[200:]))
    return folder


@pytest.fixture(scope="session")
def tokenizer(text_folder):
    return train_tokenizer(text_folder, 400)


@pytest.fixture(scope="session")
def tokens(text_folder, tokenizer, tmp_path_factory):
    return write_tokens(text_folder, tokenizer, tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def smallest():
    """Two layers of hidden size 16, chunks of 64 tokens, a dozen steps in two epochs."""
    recipe = replace(SMALL.recipe, batch_size=4, accumulation=3, epochs=2, learning_rate=4e-3)
    shape = {"hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "vocab_size": 400}
    return replace(SMALL, checkpoints_per_epoch=2, recipe=recipe, **shape)


@pytest.fixture(scope="session")
def corpus():
    return load_task("lookright", limit_train=48, limit_validation=20)


@pytest.fixture(scope="session")
def checkpoints(smallest, tokens, tokenizer, tmp_path_factory):
    """The last checkpoint of each kind, the decoder in both shapes; by kind and shape."""
    found = {}
    for kind, shape in (("encoder", "roberta"), ("decoder", "roberta"), ("decoder", "llama")):
        folder = tmp_path_factory.mktemp(f"{kind}-{shape}")
        settings = replace(smallest, decoder_shape=shape)
        pretrain(kind, settings, tokens.chunks(64), tokenizer, folder, "r")
        found[kind, shape] = Checkpoint(kind, "0123abcd", 4, folder / "04")
    return found
