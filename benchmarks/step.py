"""A whole training step of a full-size model: stock transformers with PEFT, and ours.

    python benchmarks/step.py                          # SmolLM2-135M's shape, random weights
    python benchmarks/step.py --shape mistral-7b       # on a GPU: NF4, bfloat16, random weights

A step is batch, forward, backward, clipping and optimizer, on the same sentences with the paper's
adapters. Weights are random: speed does not depend on them, and no hub is needed. Quantised, the
stock model writes its weights out in every pass, as bitsandbytes does; ours is timed doing the same
and with resident weights. On a GPU ours replays recorded passes (CUDA graphs), and is timed without
them too. Before anything is timed, the first loss and the head's gradient of every way are compared
with the stock model's in float32, and one that differs ends the program without a number.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
from attention import describe_machine
from contenders import Padded
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModel, AutoModelForTokenClassification, LlamaConfig, MistralConfig
from workload import Workload, by_length, draw_workload

from unmask.backbones import LoadedBackbone, Weights, load_backbone
from unmask.config import UnmaskConfig, gray_codes
from unmask.data.alignment import EncodedSentence
from unmask.data.tags import tag_names
from unmask.errors import OneLineParser, one_line_errors
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import pack
from unmask.quantization import make_resident, quantize_linears
from unmask.recipe import PAPER, Recipe
from unmask.route import Draw
from unmask.training.environment import peak_memory_bytes
from unmask.training.optimizer import RunOptimizer, build_optimizer
from unmask.training.passes import Passes
from unmask.training.update import StackUpdate

SHAPES = {
    "smollm2-135m": LlamaConfig(
        hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, vocab_size=49152,
    ),
    "mistral-7b": MistralConfig(sliding_window=4096),
    "tiny": LlamaConfig(
        hidden_size=64, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, vocab_size=1000,
    ),
}  # fmt: skip
TOLERANCES = {"float32": 1e-4, "bfloat16": 2**-8}
"""Relative difference of losses, and of the head's gradients as vectors. In bfloat16, where errors
grow with a model's width, a way may also be twice as far from float32 as the stock model is."""
RESULTS = Path(__file__).parent / "results" / "step.json"


class Way(NamedTuple):
    """One way to train, ready to take steps."""

    name: str
    runs: int
    first: Callable[[], list[Tensor]]
    """Loss and gradient of the head on the first batch, dropout off, every layer causal."""
    step: Callable[[int], None]


def main() -> None:
    """Parse the command line and report errors in one line."""
    arguments = _parser().parse_args()
    with one_line_errors("step.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Check, time, print and write one way after the other; what was timed stays.

    Raises:
        RuntimeError: when a way's first loss or gradient differs from the stock model's.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = arguments.dtype or ("bfloat16" if device == "cuda" else "float32")
    recipe = replace(PAPER, optimizer="adamw")
    loaded = random_backbone(arguments.shape, dtype, device)
    config = loaded.model.config
    workload = draw_workload(config.vocab_size, arguments.batches, recipe.batch_size, 0)
    if arguments.quantization == "nf4":
        quantize_linears(loaded.model, loaded.dtype)
    print(f"{loaded.weights.name}, {dtype}, {arguments.quantization}; {workload.describe()}\n")
    print(
        f"{'':<40}{'ms per run and step':>20}{'range':>18}{'times stock':>13}{'peak GiB':>10}",
        flush=True,
    )
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {**describe_machine(device), "load_average_before": os.getloadavg()},
        "settings": {key: value for key, value in vars(arguments).items() if key != "output"},
        "workload": workload.describe(),
        "rows": (rows := []),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    expected = None if dtype == "float32" else in_float32(loaded, workload, recipe)
    limits: list[float] = []
    for way in ways(loaded, workload, recipe, arguments):
        found = way.first()
        expected = expected or found
        gaps = [
            float((ours.float() - right).norm() / right.norm())
            for ours, right in zip(found, expected, strict=True)
        ]
        limits = limits or [max(TOLERANCES[dtype], 2 * gap) for gap in gaps]
        for gap, limit in zip(gaps, limits, strict=True):
            if not gap <= limit:
                raise RuntimeError(
                    f"{way.name} differs from the stock model in float32 by {gap:.1e}, more than "
                    f"{limit:.1e}; a speed without equal results means nothing, so none is given"
                )
        # Twice each batch: the second time its pass is recorded, where passes are.
        warm_up = 2 * arguments.batches + 1 if device == "cuda" else 2
        timed = time_steps(way, arguments.steps, loaded.model.device, warm_up)
        rows.append({**timed, "gaps": gaps, "limits": limits})
        print_row(rows)
        report["machine"]["load_average_after"] = os.getloadavg()
        arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {arguments.output}")


def print_row(rows: Sequence[dict[str, Any]]) -> None:
    """The last of them, for people."""
    row = rows[-1]
    times = f"{row['fastest_ms']:.1f} to {row['slowest_ms']:.1f}"
    gain = rows[0]["median_ms"] / row["median_ms"]
    print(
        f"{row['name']:<40}{row['median_ms']:>20.1f}{times:>18}{gain:>13.2f}"
        f"{row['peak_memory_gib']:>10.2f}",
        flush=True,
    )


def random_backbone(shape: str, dtype: str, device: str) -> LoadedBackbone:
    """A frozen model of a known shape, its weights drawn on the device."""
    torch.manual_seed(0)
    config = copy.deepcopy(SHAPES[shape])
    with torch.device(device):
        model = AutoModel.from_config(config, dtype=getattr(torch, dtype))
    model.requires_grad_(False)
    tokenizer = load_backbone("tiny", "float32", device="cpu").tokenizer
    name = f"random weights in the shape of {shape}"
    weights = Weights(name, "")
    return LoadedBackbone(
        weights, name, model.eval(), tokenizer, False, None, getattr(torch, dtype)
    )


def ways(
    loaded: LoadedBackbone, workload: Workload, recipe: Recipe, arguments: argparse.Namespace
) -> Iterator[Way]:
    """One after the other, each taking the backbone as the one before left it."""
    plain = "NF4 written out every pass" if arguments.quantization == "nf4" else "no quantisation"
    for checkpointing in (False, True) if arguments.checkpointing else (False,):
        name = "transformers + PEFT" + (", checkpointing" if checkpointing else f", {plain}")
        yield stock(loaded, workload, recipe, name, checkpointing)
        gc.collect()
    if arguments.by_length:
        name = "the same, batches of like length"
        yield stock(loaded, workload, recipe, name, False, by_length(workload, recipe.batch_size))
        gc.collect()
    on_gpu = loaded.model.device.type == "cuda"
    if arguments.quantization == "nf4":
        yield from ours(loaded, workload, recipe, f"ours, {plain}", 1, on_gpu)
        make_resident(loaded.model, loaded.dtype)
        plain = "NF4 resident"
    if on_gpu:
        name = f"ours, {plain}, without CUDA graphs"
        yield from ours(loaded, workload, recipe, name, 1, False)
    for runs in arguments.runs:
        yield from ours(loaded, workload, recipe, f"ours, {plain}, {runs} fused", runs, on_gpu)


def stock(
    loaded: LoadedBackbone,
    workload: Workload,
    recipe: Recipe,
    name: str,
    checkpointing: bool,
    batches: Sequence[Sequence[EncodedSentence]] | None = None,
) -> Way:
    """transformers' token classifier with PEFT's adapters, batches padded to their longest."""
    batches = batches or workload.batches
    model = stock_model(loaded, workload.labels, recipe)
    classifier: Any = model.base_model.model
    head = classifier.score.modules_to_save["default"]
    if checkpointing:
        model.enable_input_require_grads()
        # transformers 5 is renaming the switch.
        new_name = getattr(classifier, "activation_checkpointing_enable", None)
        enable = new_name or classifier.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = build_optimizer(trained, recipe)

    def loss(sentences: Sequence[EncodedSentence]) -> Tensor:
        batch = Padded.of(sentences)._asdict()
        inputs = {key: value.to(loaded.model.device) for key, value in batch.items()}
        return model(**inputs).loss

    def first() -> list[Tensor]:
        model.eval()
        value = loss(workload.batches[0])
        model.train()
        return [value.detach(), torch.autograd.grad(value, head.weight)[0]]

    def step(index: int) -> None:
        loss(batches[index % len(batches)]).backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return Way(name, 1, first, step)


def in_float32(loaded: LoadedBackbone, workload: Workload, recipe: Recipe) -> list[Tensor]:
    """What the stock model finds first where weights of the same numbers compute in float32."""
    wide = replace(loaded, model=copy.deepcopy(loaded.model), dtype=torch.float32)
    make_resident(wide.model, wide.dtype)
    wide.model.float()
    return stock(wide, workload, recipe, "in float32", False).first()


def stock_model(loaded: LoadedBackbone, labels: Sequence[str], recipe: Recipe) -> PeftModel:
    """The classifier around a copy that shares the backbone's weights; its head drawn as ours."""
    backbone = copy.deepcopy(loaded.model, memo={id(p): p for p in loaded.model.parameters()})
    backbone.set_attn_implementation("sdpa")
    backbone.config.use_cache = False
    config = copy.deepcopy(backbone.config)
    num_tags = config.num_labels = len(tag_names(labels))
    config.use_cache = False
    config.classifier_dropout = recipe.head_dropout
    with torch.device("meta"):
        classifier = AutoModelForTokenClassification.from_config(config)
    setattr(classifier, classifier.base_model_prefix, backbone)
    classifier.score = torch.nn.Linear(
        config.hidden_size, num_tags, device=backbone.device, dtype=torch.float32
    )
    classifier.score.weight.data.copy_(head_weight(num_tags, config.hidden_size))
    classifier.score.bias.data.zero_()
    # The head computes in float32 on either side.
    classifier.score.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(),))
    adapters = LoraConfig(
        task_type="TOKEN_CLS", r=recipe.lora_rank, lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout, target_modules=list(recipe.lora_targets),
    )  # fmt: skip
    with warnings.catch_warnings():
        # PEFT still asks transformers for what transformers has renamed.
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(classifier, adapters)
    return model.train()


def ours(
    loaded: LoadedBackbone,
    workload: Workload,
    recipe: Recipe,
    name: str,
    runs: int,
    with_graphs: bool,
) -> Iterator[Way]:
    """This project's: packed, `runs` fine-tunings in one pass; the backbone is given back after."""
    layers = loaded.model.config.num_hidden_layers
    codes = gray_codes(4)
    configs = [UnmaskConfig.from_code(codes[run % len(codes)], layers) for run in range(runs)]
    model = UnmaskedForTokenClassification(
        loaded, workload.labels, configs, LoraSettings.from_recipe(recipe),
        list(range(runs)), recipe.head_dropout,
    ).train()  # fmt: skip
    for run in range(runs):
        model.score_weight.data[run] = head_weight(*model.score_weight.shape[1:])
    stacked = model.stacked_parameters()
    optimizers = [RunOptimizer(stacked, run, recipe, num_steps=1000) for run in range(runs)]
    passes, update = Passes(model, with_graphs), StackUpdate(stacked, optimizers)

    def first() -> list[Tensor]:
        batch = model.batch([workload.batches[0]] * runs)
        with model.route(batch):
            losses = model.losses(batch)
            gradient = torch.autograd.grad(losses[0], model.score_weight)[0]
        return [losses[0].detach(), gradient[0]]

    def step(index: int) -> None:
        # Runs of one seed share their sentences, as in a sweep over configurations.
        sentences = workload.batches[index % len(workload.batches)]
        batch = passes.fitted(pack([sentences] * runs, model.causal))
        keys = model.route.keys(Draw(model.seeds, (index,) * runs))
        losses = passes(batch, keys, torch.ones(runs))
        *_, norms = torch.stack([losses.double(), update.norms()]).tolist()
        update.step(dict.fromkeys(range(runs), index), norms)

    yield Way(name, runs, first, step)
    model.release()
    gc.collect()


def head_weight(num_tags: int, hidden: int) -> Tensor:
    """The same start for the head of every way, [tags, hidden]."""
    return torch.randn(num_tags, hidden, generator=torch.Generator().manual_seed(0)) * 0.02


def time_steps(way: Way, steps: int, device: torch.device, warm_up: int) -> dict[str, Any]:
    """Milliseconds of a step divided by the runs it trains."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    milliseconds = []
    for index in range(warm_up + steps):
        started = time.perf_counter()
        way.step(index)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        milliseconds.append(1000 * (time.perf_counter() - started) / way.runs)
    timed = milliseconds[warm_up:]
    return {
        "name": way.name,
        "runs": way.runs,
        "median_ms": statistics.median(timed),
        "fastest_ms": min(timed),
        "slowest_ms": max(timed),
        "peak_memory_gib": peak_memory_bytes(device) / 2**30,
    }


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="step.py",
        description="Milliseconds of a training step against transformers with PEFT.",
        epilog="Exits with 1, and gives no number, when the ways compute different things.",
    )
    add = parser.add_argument
    add("--shape", choices=SHAPES, default="smollm2-135m")
    on_gpu = torch.cuda.is_available()
    add("--quantization", choices=("nf4", "none"), default="nf4" if on_gpu else "none")
    add("--dtype", choices=TOLERANCES, help="default: bfloat16, on a CPU float32")
    add("--runs", nargs="+", type=int, default=[1, 2, 4, 8, 16] if on_gpu else [1, 4])
    add("--checkpointing", action="store_true", help="time the stock model with it too")
    add("--by-length", action="store_true", help="time the stock model on sorted batches too")
    add("--batches", type=int, default=4, help="different batches")
    add("--steps", type=int, default=10 if on_gpu else 3, help="timed steps")
    add("--output", type=Path, default=RESULTS, help="where to write JSON")
    return parser


if __name__ == "__main__":
    main()
