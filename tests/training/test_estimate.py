import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unmask.data.alignment import EncodedSentence
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification, configuration
from unmask.recipe import PRESETS, load_recipe
from unmask.training import estimate as module
from unmask.training.estimate import MAX_FUSED, Cost, estimate, free_memory

CPU = torch.device("cpu")
MIB = 2**20


def sentences(*lengths):
    return [
        EncodedSentence(str(i), (5,) * n, tuple(range(n)), (0,) * n, 0)
        for i, n in enumerate(lengths)
    ]


def test_tokens_are_those_that_training_sees(load_random):
    recipe = load_recipe("quick", batch_size=2, epochs=3)
    cost = estimate(load_random(), recipe, sentences(4, 6, 10, 20))
    assert cost.tokens_per_run == 3 * (4 + 6 + 10 + 20)


def test_steps_that_are_limited_limit_the_tokens(load_random):
    recipe = load_recipe("quick", batch_size=2, accumulation=2, max_steps=5)
    cost = estimate(load_random(), recipe, sentences(*[7] * 40))
    assert cost.tokens_per_run == 5 * 2 * 2 * 7


def test_a_batch_is_never_larger_than_the_training_split(load_random):
    cost = estimate(load_random(), load_recipe("quick", epochs=1), sentences(8, 8))
    assert cost.tokens_per_run == 16


def labeler(loaded, recipe):
    labels = [f"L{i}" for i in range(15)]  # 31 tags
    config = configuration(loaded, "0110")
    return UnmaskedForTokenClassification(
        loaded, labels, [config], LoraSettings.from_recipe(recipe)
    )


def test_arithmetic_is_near_what_pytorch_counts(load_random):
    loaded = load_random(hidden_size=64, head_dim=16, intermediate_size=192)
    recipe = load_recipe("quick", lora_rank=4)
    cost = estimate(loaded, recipe, sentences(8))
    model = labeler(loaded, recipe)
    batch = model.batch([sentences(*[8] * 16)])
    with FlopCounterMode(display=False) as counter, model.route(batch):
        model.losses(batch).sum().backward()
    # The first layer needs no gradient of its input, and attention itself is left out.
    assert cost.flops_per_token * 8 * 16 == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_state_of_a_run_is_that_of_its_trained_tensors(load_random):
    # Without activations to speak of, what remains is weights, gradients and AdamW's two moments.
    loaded = load_random()
    recipe = load_recipe("quick", batch_size=1)
    cost = estimate(loaded, recipe, sentences(1))
    trained = sum(tensor.numel() for tensor in labeler(loaded, recipe).run_parameters(0).values())
    assert cost.bytes_per_run == pytest.approx(16 * trained, rel=0.2)


def test_activations_are_those_that_are_kept_for_backward(load_random, bytes_kept):
    loaded = load_random(hidden_size=64, head_dim=16, intermediate_size=192)
    recipe = load_recipe("quick", lora_rank=4, batch_size=16)
    train = sentences(*[32] * 16)
    model = labeler(loaded, recipe).train()
    counted = bytes_kept(model, model.batch([train]))
    without = estimate(loaded, load_recipe("quick", lora_rank=4, batch_size=1), sentences(1))
    estimated = estimate(loaded, recipe, train).bytes_per_run - without.bytes_per_run
    # Tables of angles, kept once for all layers, and the head's tensors are left out.
    assert estimated == pytest.approx(counted, rel=0.25)


def test_a_batch_of_long_sentences_is_expected_where_lengths_differ(load_random):
    loaded, recipe = load_random(), load_recipe("quick", batch_size=4)
    even, uneven = sentences(*[16] * 40), sentences(*[8] * 20, *[24] * 20)
    larger = estimate(loaded, recipe, uneven).bytes_per_run
    assert estimate(loaded, recipe, even).bytes_per_run < larger
    # No batch can hold more than the longest sentences.
    assert larger < estimate(loaded, recipe, sentences(*[24] * 40)).bytes_per_run


def test_backbone_is_counted_in_the_dtype_it_is_held_in(load_random):
    single = estimate(load_random(), PRESETS["quick"], sentences(8))
    half = estimate(load_random(torch.bfloat16), PRESETS["quick"], sentences(8))
    assert single.backbone_bytes == 2 * half.backbone_bytes


def test_gradient_checkpointing_and_eight_bits_need_less(load_random):
    plain = load_recipe("quick")
    saving = load_recipe("quick", gradient_checkpointing=True, optimizer="paged_adamw_8bit")
    train = sentences(*[64] * 16)
    loaded = load_random()
    assert (
        estimate(loaded, saving, train).bytes_per_run < estimate(loaded, plain, train).bytes_per_run
    )


@pytest.mark.parametrize(
    ("free", "num_runs", "width"),
    [
        (0, 80, 1),  # a run alone is always tried
        (20 * MIB, 80, 1),  # less than what goes beside the runs
        (1000 * MIB, 80, 5),
        (1000 * MIB, 4, 4),
        (10**6 * MIB, 80, MAX_FUSED),
    ],
)
def test_width_is_what_fits_beside_the_loaded_backbone(free, num_runs, width):
    cost = Cost(backbone_bytes=10**6, bytes_per_run=100 * MIB, tokens_per_run=1, flops_per_token=1)
    assert cost.width(free, num_runs) == width


@pytest.mark.parametrize(("num_runs", "measured"), [(1, 39.4), (4, 78.7), (16, 148.2)])
def test_runs_of_the_embedded_backbone_take_about_what_was_measured(num_runs, measured):
    # The peak that `unmask sweep --fuse N --limit-train 200 --epochs 1` said, two cores.
    cost = Cost(0, bytes_per_run=int(8.5 * MIB), tokens_per_run=1, flops_per_token=1)
    assert cost.bytes_of_runs(num_runs) / MIB == pytest.approx(measured, rel=0.2)


def test_free_memory_is_what_linux_calls_available(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemFree: 10 kB\nMemAvailable:     500 kB\n")
    monkeypatch.setattr(module, "MEMINFO", meminfo)
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    assert free_memory(CPU) == 500 * 1024


@pytest.mark.parametrize(("limit", "free"), [("max", 500 * 1024), ("4096", 1096), ("2000", 0)])
def test_a_container_limits_what_is_free(tmp_path, monkeypatch, limit, free):
    (tmp_path / "meminfo").write_text("MemAvailable: 500 kB\n")
    (tmp_path / "memory.max").write_text(limit + "\n")
    (tmp_path / "memory.current").write_text("3000\n")
    monkeypatch.setattr(module, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    assert free_memory(CPU) == free


def test_free_memory_without_proc_is_half_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(module, "CGROUP", tmp_path)
    monkeypatch.setattr(module.os, "sysconf", {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 4096}.get)
    assert free_memory(CPU) == 10 * 4096 // 2
