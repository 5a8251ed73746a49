"""How much a run costs when many share one forward pass, beside training them one after the other.

    python benchmarks/sweep.py --model tiny
    python benchmarks/sweep.py --model smollm2-135m --data-dir DIR --task wnut17 --widths 1,2,4,8,16

Every way of training does the same optimizer steps on the same sentences: stock transformers with
PEFT (and bitsandbytes' optimizer and NF4 where the recipe says so), padded; the same with batches
of like length; ours alone; ours fused. Before anything is timed, the first losses of ours and of
the stock model are compared, and nothing is printed when they differ.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import AutoModelForTokenClassification

from unmask.backbones import LoadedBackbone, load_backbone
from unmask.config import UnmaskConfig, gray_codes
from unmask.data.alignment import EncodedSentence
from unmask.data.tags import tag_names
from unmask.data.tasks import load_task
from unmask.lora import LoraSettings
from unmask.model import UnmaskedForTokenClassification
from unmask.packing import pack
from unmask.recipe import Recipe, load_recipe
from unmask.training.batches import encode_split
from unmask.training.checkpoint import Progress
from unmask.training.environment import describe_environment, peak_memory_bytes
from unmask.training.module import FusedRuns, Trainee
from unmask.training.optimizer import build_optimizer

RESULTS = Path(__file__).parent / "results" / "sweep.json"
LOSS_TOLERANCE = 1e-3
"""Of the first loss: padded and packed products round differently; bf16 would need more."""


def main() -> None:
    """Compare, time, print a table, write JSON and a plot."""
    arguments = _parse()
    recipe = load_recipe(arguments.preset, lora_dropout=0.0, head_dropout=0.0)
    corpus = load_task(arguments.task, arguments.data_dir)
    loaded = load_backbone(
        arguments.model, recipe.compute_dtype, recipe.quantization, arguments.device
    )
    tags = tag_names(corpus.labels)
    probe = _stack(loaded, corpus.labels, recipe, 1)
    sentences = encode_split(
        corpus.train[: arguments.sentences], probe.encoder, tags, recipe.max_subtokens
    )
    _check_same_loss(probe, loaded, recipe, sentences, len(tags))

    rows = []
    for name, by_length in (("transformers + PEFT", False), ("the same, sorted by length", True)):
        step, tokens = _stock_steps(loaded, recipe, sentences, len(tags), by_length)
        rows.append(_timed(name, 1, step, tokens, arguments, loaded))
        gc.collect()
    for width in arguments.widths:
        model = _stack(loaded, corpus.labels, recipe, width)
        step, tokens = _fused_steps(model, recipe, sentences)
        rows.append(_timed(f"ours, {width} fused", width, step, tokens, arguments, loaded))
        model.release()
        gc.collect()
    _report(rows, loaded, arguments)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--task", default="lookright")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--preset", default="tiny", choices=("tiny", "quick", "paper"))
    parser.add_argument("--widths", default="1,2,4,8,16", help="how many runs to fuse, in turn")
    parser.add_argument("--sentences", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10, help="timed steps; the median counts")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    arguments.widths = [int(width) for width in arguments.widths.split(",")]
    return arguments


def _stack(
    loaded: LoadedBackbone, labels: Sequence[str], recipe: Recipe, width: int
) -> UnmaskedForTokenClassification:
    codes = gray_codes(4)
    layers = loaded.model.config.num_hidden_layers
    configs = [UnmaskConfig.from_code(codes[run % len(codes)], layers) for run in range(width)]
    seeds = [120 + run // len(codes) for run in range(width)]
    return UnmaskedForTokenClassification(
        loaded, labels, configs, LoraSettings.from_recipe(recipe), seeds, head_dropout=0.0
    )


def _fused_steps(
    model: UnmaskedForTokenClassification, recipe: Recipe, sentences: Sequence[EncodedSentence]
) -> tuple[Callable[[int], None], Callable[[int], int]]:
    trainees = [Trainee(str(i), seed, recipe, sentences, Progress(str(i))) for i, seed in
                enumerate(model.seeds)]  # fmt: skip
    module = FusedRuns(model, trainees)
    module.manual_backward = lambda loss: loss.backward()  # no Trainer around it here
    model.train()

    def batch(index: int) -> list[list[EncodedSentence]]:
        return [trainee.batch(index) for trainee in trainees]

    def step(index: int) -> None:
        module.training_step(pack(batch(index), model.causal).to(model.device), index)

    def tokens(index: int) -> int:
        return sum(len(sentence.token_ids) for run in batch(index) for sentence in run)

    return step, tokens


def _stock_model(loaded: LoadedBackbone, recipe: Recipe, num_tags: int) -> torch.nn.Module:
    config = copy.deepcopy(loaded.model.config)
    config.num_labels = num_tags
    with torch.device("meta"):
        model = AutoModelForTokenClassification.from_config(config, attn_implementation="sdpa")
    # A copy: PEFT puts its adapters into the model it is given.
    setattr(model, model.base_model_prefix, copy.deepcopy(loaded.model))
    model.score = torch.nn.Linear(config.hidden_size, num_tags, device=loaded.model.device)
    model.dropout = torch.nn.Identity()
    lora = LoraConfig(
        task_type=TaskType.TOKEN_CLS, r=recipe.lora_rank, lora_alpha=recipe.lora_alpha,
        lora_dropout=0.0, target_modules=list(recipe.lora_targets),
    )  # fmt: skip
    return get_peft_model(model, lora).train()


def _stock_steps(
    loaded: LoadedBackbone,
    recipe: Recipe,
    sentences: Sequence[EncodedSentence],
    num_tags: int,
    by_length: bool,
) -> tuple[Callable[[int], None], Callable[[int], int]]:
    model = _stock_model(loaded, recipe, num_tags)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(trained, recipe)
    order = sorted(sentences, key=lambda s: len(s.token_ids)) if by_length else list(sentences)
    batches = [
        order[start : start + recipe.batch_size]
        for start in range(0, len(order), recipe.batch_size)
    ]
    if by_length:
        # A shuffled order of length-sorted batches, as a length-grouped sampler gives.
        batches = [batches[i * 7 % len(batches)] for i in range(len(batches))]

    def step(index: int) -> None:
        loss = _stock_loss(model, batches[index % len(batches)], loaded)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def tokens(index: int) -> int:
        return sum(len(sentence.token_ids) for sentence in batches[index % len(batches)])

    return step, tokens


def _stock_loss(
    model: torch.nn.Module, batch: Sequence[EncodedSentence], loaded: LoadedBackbone
) -> torch.Tensor:
    longest = max(len(sentence.token_ids) for sentence in batch)
    pad = int(loaded.tokenizer.pad_token_id)
    rows = [
        (
            [*s.token_ids, *[pad] * (longest - len(s.token_ids))],
            [*[1] * len(s.token_ids), *[0] * (longest - len(s.token_ids))],
            [*s.label_ids, *[-100] * (longest - len(s.token_ids))],
        )
        for s in batch
    ]
    ids, mask, labels = (
        torch.tensor(column).to(loaded.model.device) for column in zip(*rows, strict=True)
    )
    return model(input_ids=ids, attention_mask=mask, labels=labels).loss


def _check_same_loss(
    ours: UnmaskedForTokenClassification,
    loaded: LoadedBackbone,
    recipe: Recipe,
    sentences: Sequence[EncodedSentence],
    num_tags: int,
) -> None:
    batch = list(sentences[: recipe.batch_size])
    packed = ours.batch([batch])
    with torch.no_grad(), ours.route(packed):
        expected = float(ours.losses(packed)[0])
    head = ours.score_weight[0].detach().clone()
    ours.release()
    stock = _stock_model(loaded, recipe, num_tags)
    with torch.no_grad():
        stock.base_model.model.score.modules_to_save["default"].weight.copy_(head)
        stock.base_model.model.score.modules_to_save["default"].bias.zero_()
        found = float(_stock_loss(stock, batch, loaded))
    if abs(found - expected) > LOSS_TOLERANCE * abs(expected):
        sys.exit(f"the stock model's first loss is {found:.6f}, ours {expected:.6f}: not the same")


def _timed(
    name: str,
    width: int,
    step: Callable[[int], None],
    tokens: Callable[[int], int],
    arguments: argparse.Namespace,
    loaded: LoadedBackbone,
) -> dict:
    seconds, rates = [], []
    for index in range(2 + arguments.steps):
        started = time.perf_counter()
        step(index)
        if loaded.model.device.type == "cuda":
            torch.cuda.synchronize()
        if index >= 2:
            seconds.append(time.perf_counter() - started)
            rates.append(tokens(index) / seconds[-1])
    return {
        "name": name,
        "width": width,
        "seconds_per_run_step": statistics.median(seconds) / width,
        "tokens_per_second": statistics.median(rates),
        "peak_memory_gib": peak_memory_bytes(loaded.model.device) / 2**30,
    }


def _report(rows: list[dict], loaded: LoadedBackbone, arguments: argparse.Namespace) -> None:
    print(f"{'':<28}{'ms per run and step':>20}{'tokens/s':>12}{'times stock':>13}{'peak GiB':>10}")
    for row in rows:
        ratio = rows[0]["seconds_per_run_step"] / row["seconds_per_run_step"]
        print(
            f"{row['name']:<28}{row['seconds_per_run_step'] * 1e3:>20.1f}"
            f"{row['tokens_per_second']:>12.0f}{ratio:>13.2f}{row['peak_memory_gib']:>10.2f}"
        )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "date": date.today().isoformat(),
        "machine": {**describe_environment(loaded), "processor": platform.processor()},
        "settings": {
            "model": arguments.model, "task": arguments.task, "preset": arguments.preset,
            "steps": arguments.steps, "sentences": arguments.sentences,
        },
        "rows": rows,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(record, indent=2) + "\n")
    _plot(rows, arguments.out.with_suffix(".png"))


def _plot(rows: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    ours = [row for row in rows if row["name"].startswith("ours")]
    axes.plot(
        [row["width"] for row in ours],
        [row["seconds_per_run_step"] * 1e3 for row in ours],
        marker="o",
        label="ours",
    )
    for row in rows[:2]:
        axes.axhline(row["seconds_per_run_step"] * 1e3, linestyle="--", label=row["name"])
    axes.set_xscale("log", base=2)
    axes.set_xlabel("runs in one forward pass")
    axes.set_ylabel("ms per run and step")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
