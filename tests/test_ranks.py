"""Runs that several processes train together end where they end on one."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.ranks import Ranks
from unmask.training.sharding import shard

TRAIN = """
import json, sys
import numpy as np, torch, torch.distributed as dist
from safetensors.torch import save_file
from unmask import UnmaskedForTokenClassification
from unmask.backbones import load_backbone
from unmask.config import UnmaskConfig
from unmask.data.alignment import IGNORED_LABEL, EncodedSentence
from unmask.lora import LoraSettings
from unmask.recipe import load_recipe
from unmask.training.checkpoint import Progress
from unmask.training.fit import fit
from unmask.training.module import Trainee
from unmask.training.sharding import shard

rank, size, mode, store, out = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
torch.set_num_threads(1)
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)

def sentences(count):
    generator = np.random.default_rng(count)
    for index in range(count):
        length = int(generator.integers(1, 13))
        tokens = tuple(generator.integers(3, 60, length).tolist())
        labels = tuple(
            int(generator.integers(0, 3)) if generator.random() < 0.7 else IGNORED_LABEL
            for _ in tokens
        )
        yield EncodedSentence(str(index), tokens, tuple(range(length)), labels, 0)

quantization = "nf4" if "nf4" in mode else None
dtype = "float32" if quantization else "float64"
loaded = load_backbone("tiny", dtype, quantization, "cpu", resident=False)
if mode.startswith("sharded"):
    shard(loaded)
    parameters = list(loaded.model.layers.parameters())
    held = sum((p.to_local() if hasattr(p, "to_local") else p).numel() for p in parameters)
    assert held < 1.05 / size * sum(p.numel() for p in parameters), held
codes, counts, seeds = ["0110", "0000", "1011"], [37, 20, 1], [120, 121, 122]
recipe = load_recipe(
    "tiny", batch_size=5, accumulation=2, max_steps=5, epochs=5, compute_dtype=dtype,
    lora_dropout=0.2, gradient_checkpointing="recomputed" in mode,
)
model = UnmaskedForTokenClassification(
    loaded, ["PER"], [UnmaskConfig.from_code(code, 8) for code in codes],
    LoraSettings.from_recipe(recipe), seeds, head_dropout=0.3,
)
trainees = [
    Trainee(str(seed), seed, recipe, list(sentences(count)), Progress(str(seed)))
    for count, seed in zip(counts, seeds)
]
fit(model, trainees, show_progress=False)
tensors = {
    f"{run}/{name}": tensor.detach().contiguous().clone()
    for run in range(3) for name, tensor in model.run_parameters(run).items()
}
curves = {str(run): t.progress.train_loss + [t.progress.tokens] for run, t in enumerate(trainees)}
save_file(tensors, f"{out}/{rank}.safetensors", {"curves": json.dumps(curves)})
if size > 1:
    dist.destroy_process_group()
"""


def train(folder, size, mode="plain"):
    """[rank]: what every process ends with."""
    out = folder / f"{mode}-{size}"
    out.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(rank), str(size), mode, str(out / "store"), str(out)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * size, "\n".join(said)
    return [load_file(out / f"{rank}.safetensors") for rank in range(size)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    [tensors] = train(tmp_path_factory.mktemp("alone"), 1)
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize(("size", "mode"), [(2, "plain"), (3, "sharded")])
def test_runs_end_where_they_end_on_one_process(alone, tmp_path, size, mode):
    for tensors in train(tmp_path, size, mode):
        assert tensors.keys() == alone.keys()
        for name, expected in alone.items():
            # Sums in another order, in float64; five steps of 0.01.
            torch.testing.assert_close(tensors[name], expected, atol=1e-11, rtol=0)


@pytest.mark.slow
def test_four_bits_spread_over_processes_are_those_of_one(tmp_path):
    [alone] = train(tmp_path, 1, "nf4")
    for tensors in train(tmp_path, 2, "sharded-nf4-recomputed"):
        for name, expected in alone.items():
            # Sums in another order, in float32; five steps of 0.01.
            torch.testing.assert_close(tensors[name], expected, atol=1e-5, rtol=0)


def sentence(length, words):
    labels = tuple(0 if place < words else IGNORED_LABEL for place in range(length))
    return EncodedSentence("s", tuple(range(length)), tuple(range(length)), labels, 0)


lengths = st.lists(st.lists(st.integers(1, 9), max_size=6), min_size=1, max_size=4).filter(any)


@given(lengths, st.integers(2, 5))
def test_parts_are_stretches_that_make_up_the_micro_batch(lengths, size):
    whole = [[sentence(length, 1) for length in of_run] for of_run in lengths]
    parts = [Ranks(rank, size).part(whole) for rank in range(size)]
    assert all(any(part.sentences) for part in parts)  # an idle rank is given something
    for run, of_run in enumerate(lengths):
        before = 0
        for part in parts:
            own = [s for s in part.sentences[run] if 0 in s.label_ids]
            assert [len(s.token_ids) for s in own] == of_run[before : before + len(own)]
            assert part.shares[run] == len(own) / max(len(of_run), 1)
            assert part.num_tokens[run] == sum(of_run)
            if own:
                assert part.first_tokens[run] == sum(of_run[:before])
            before += len(own)
        assert before == len(of_run)


def test_a_part_is_balanced_by_tokens():
    whole = [[sentence(8, 1), sentence(1, 1), sentence(1, 1), sentence(6, 1)]]
    lengths = [[len(s.token_ids) for s in Ranks(r, 2).part(whole).sentences[0]] for r in (0, 1)]
    assert lengths == [[8], [1, 1, 6]]


def test_one_process_has_everything():
    whole = [[sentence(3, 2), sentence(2, 0)], []]
    part = Ranks.here().part(whole)
    assert (part.sentences, part.shares) == ((tuple(whole[0]), ()), (1.0, 1.0))


def test_a_backbone_is_not_sharded_without_other_processes(load_random):
    with pytest.raises(RuntimeError, match="no process group: start with torchrun"):
        shard(load_random())
