"""build, train, generate, evaluate: the four steps from a corpus to a row in the ledger.

Each step reads what the one before wrote, and says which is missing.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from unmask.instruct.comparison import score_outputs
from unmask.instruct.sources import Part, SourceSettings, load_source
from unmask.instruct.system import Decoding, System
from unmask.instruct.workspace import (
    SPLITS,
    Built,
    describe,
    outputs_path,
    read_built,
    read_examples,
    read_queries,
    write_built,
    write_lines,
)
from unmask.recipe import Recipe
from unmask.results.ledger import Ledger
from unmask.results.run import Run, RunResult

DECODINGS = ("system", "greedy", "constrained")

RUN_FILE = "run.json"
AFTER = ", after "
"""Before the id of the first stage in the name of a run that has two."""


@dataclass(frozen=True)
class InstructSettings:
    """One system on one model and one corpus."""

    system: System
    model: str
    out: Path
    recipe: Recipe
    source: SourceSettings = field(default_factory=SourceSettings)
    seed: int = 120
    decoding: str = "system"
    """`system`: as the system says; `greedy`; `constrained`: greedily, well-formed answers only."""
    max_new_tokens: int | None = None
    batch_size: int = 16
    """Queries generated at a time."""
    adapter: bool = True
    """False asks the backbone as it is."""
    device: str | None = None
    ledger: Path | None = None
    start_from: Path | None = None
    """Folder of an adapter to go on from when training."""


def build(settings: InstructSettings, console: Console) -> dict[str, dict[str, Any]]:
    """Render every split for the system.

    Returns:
        By split the counts of `System.statistics`, which build.json holds too.
    """
    source = load_source(settings.source)
    for note in source.notes:
        console.print(f"note: {note}")
    settings.out.mkdir(parents=True, exist_ok=True)
    system = settings.system.prepared(source.splits.get("train", []), source.labels)
    parts = source.parts or (Part("", source.splits, source.labels),)
    counts = {}
    for split in SPLITS:
        examples = source.splits.get(split, [])
        queries = source.queries.get(split) or [
            query
            for part in parts
            if (asking := system.for_folder(part.task)) is not None
            for query in asking.render_all(
                part.splits.get(split, []), part.labels, train=split == "train"
            )
        ]
        if source.labelled and split == "train":
            queries = system.pretraining(source.labelled)
        write_lines(settings.out / f"{split}.queries.jsonl", queries)
        write_lines(settings.out / f"{split}.examples.jsonl", examples)
        counts[split] = system.statistics(queries)
        _say_what_was_built(split, len(examples), counts[split], console)
    write_built(settings.out, settings.system, source, counts)
    return counts


def _say_what_was_built(
    split: str, num_examples: int, counts: dict[str, Any], console: Console
) -> None:
    console.print(
        f"{split}: {num_examples} sentences, {counts['num_queries']} queries, "
        f"{counts['num_without_items']} with nothing to find, {counts['num_collisions']} whose "
        "gold the format cannot carry"
    )
    for what in ("tasks", "strategies", "forms"):
        if sum(counts.get(what, {}).values()) and (what != "tasks" or len(counts[what]) > 1):
            shown = ", ".join(f"{name} {number}" for name, number in counts[what].items())
            console.print(f"  {what}: {shown}")


def train(settings: InstructSettings, console: Console) -> Path:
    """Tune the model on the training queries, unless that is done, from where a kill left it.

    Returns:
        The folder of the adapter.
    """
    from unmask.backbones import load_causal_lm
    from unmask.instruct import training

    built, recipe = read_built(settings.out, settings.system), settings.recipe
    queries = read_queries(settings.out, "train")
    if not queries:
        raise ValueError(f"{settings.out} has no training queries: the corpus has no train split")
    loaded = load_causal_lm(
        settings.model, recipe.compute_dtype, recipe.quantization, settings.device
    )
    run = run_of(settings, built, loaded.weights.name)
    folder = settings.out / "runs" / run.id
    if (folder / training.SUMMARY_FILE).exists():
        console.print(f"already trained: {folder}")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RUN_FILE).write_text(json.dumps(run.to_dict()), encoding="utf-8")
    longest = min(recipe.max_subtokens, loaded.model.config.max_position_embeddings)
    texts = training.encode_queries(queries, settings.system, loaded.tokenizer, longest)
    model = training.add_adapter(loaded, recipe, settings.seed, settings.start_from)
    pad: Any = loaded.tokenizer.pad_token_id
    keeper = training.Keeper(folder, run.id)
    summary = training.tune(
        model, texts, settings.system, recipe, settings.seed, pad, console, keeper
    )
    training.save_tuned(model, folder, summary)
    console.print(
        f"{len(summary.losses)} steps in {summary.seconds:.0f} s, loss {summary.losses[0]:.3f} to "
        f"{summary.losses[-1]:.3f}; cut: {summary.num_lost_words} words, "
        f"{summary.num_lost_answers} answers; {folder}"
    )
    return folder


def generate(settings: InstructSettings, split: str, console: Console) -> Path:
    """Answer the queries of a split, from wherever an earlier call left it.

    The backbone is loaded as it was for training: another quantization would be another model.

    Returns:
        The file of outputs.
    """
    from unmask.backbones import find_weights, load_causal_lm
    from unmask.instruct.generation import generate_file
    from unmask.instruct.training import load_tuned

    built = read_built(settings.out, settings.system)
    queries = read_queries(settings.out, split)
    if not queries:
        raise ValueError(f"{settings.out} has no {split} queries: the corpus has no {split} split")
    run = find_run(settings, built, find_weights(settings.model).name)
    loaded = load_causal_lm(
        settings.model, run.recipe.compute_dtype, run.recipe.quantization, settings.device
    )
    folder = settings.out / "runs" / run.id
    folder.mkdir(parents=True, exist_ok=True)
    model = load_tuned(loaded, folder) if settings.adapter else loaded.model
    grammars = None
    if settings.decoding == "constrained":
        found = {query.id: settings.system.grammar(query) for query in queries}
        grammars = {name: grammar for name, grammar in found.items() if grammar is not None}
        if not grammars:
            raise ValueError(
                f"system {settings.system.name} has no grammar for these queries: leave "
                "--decoding constrained out"
            )
    path = outputs_path(folder, split, settings.decoding)
    decoding = decoding_of(settings)
    generate_file(
        model,
        loaded.tokenizer,
        queries,
        decoding,
        path,
        settings=_identity(settings, decoding),
        batch_size=settings.batch_size,
        grammars=grammars,
        seed=settings.seed,
        console=console,
    )
    return path


def _identity(settings: InstructSettings, decoding: Decoding) -> dict[str, Any]:
    """What outputs depend on besides the run; a sample also on what it is drawn with."""
    identity = {"decoding": vars(decoding), "constrained": settings.decoding == "constrained"}
    if decoding.sample:
        identity |= {"seed": settings.seed, "batch_size": settings.batch_size}
    return identity


def evaluate(settings: InstructSettings, split: str) -> dict[str, Any]:
    """Score the outputs of a split and write them to the ledger, once.

    Returns:
        What `comparison.score_outputs` returns.

    Raises:
        FileNotFoundError: when nothing was generated yet.
    """
    from unmask.backbones import find_weights
    from unmask.instruct.generation import read_outputs

    built = read_built(settings.out, settings.system)
    run = find_run(settings, built, find_weights(settings.model).name)
    folder = settings.out / "runs" / run.id
    path = outputs_path(folder, split, settings.decoding)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: run `unmask instruct generate --split {split}`"
        )
    queries = read_queries(settings.out, split)
    outputs = read_outputs(path)
    missing = sum(query.id not in outputs for query in queries)
    if missing:
        raise ValueError(
            f"{path} lacks {missing} of {len(queries)} outputs: run the same `unmask instruct "
            "generate` again"
        )
    examples = read_examples(settings.out, split)
    scores = score_outputs(settings.system, queries, outputs, examples, built.labels)
    text = json.dumps(scores, indent=1, ensure_ascii=False)
    scores_path(path).write_text(text, encoding="utf-8")
    if "f1" in scores and split != "train":
        _record(settings, run, split, scores)
    return scores


def scores_by_decoding(settings: InstructSettings, split: str) -> dict[str, dict[str, Any]]:
    """The scores that `evaluate` has written for this run and split, by decoding."""
    from unmask.backbones import find_weights

    built = read_built(settings.out, settings.system)
    run = find_run(settings, built, find_weights(settings.model).name)
    folder = settings.out / "runs" / run.id
    found = {name: scores_path(outputs_path(folder, split, name)) for name in DECODINGS}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in found.items()
        if path.exists()
    }


def scores_path(outputs: Path) -> Path:
    """Where the scores of a file of outputs are."""
    return outputs.with_suffix(".scores.json")


def _record(settings: InstructSettings, run: Run, split: str, scores: dict[str, Any]) -> None:
    """A run enters the ledger with its validation scores, and is scored on test once."""
    ledger = Ledger(settings.ledger or settings.out / "ledger.jsonl")
    curves, timings = _costs(settings.out / "runs" / run.id)
    if settings.decoding != "system":
        run = replace(run, config=f"{run.config}, {settings.decoding}")
    known = {one.run.id: one for one in ledger.results()}
    if split == "validation" and run.id not in known:
        ledger.append_run(RunResult(run, {split: scores}, curves, timings, _environment()))
    elif split == "test" and run.id not in known:
        raise ValueError(
            f"{run.name} is not in {ledger.path}: evaluate validation before test, so that its row "
            "is whole"
        )
    elif split == "test" and "test" not in known[run.id].scores:
        ledger.append_test(run.id, scores)


def _costs(folder: Path) -> tuple[dict[str, list[float]], dict[str, float]]:
    from unmask.instruct.training import SUMMARY_FILE, read_summary

    if not (folder / SUMMARY_FILE).exists():
        return {}, {}
    summary = read_summary(folder)
    timings = {"train_seconds": summary.seconds, "train_tokens": float(summary.num_tokens)}
    return {"train_loss": summary.losses}, timings


def _environment() -> dict[str, str]:
    packages = ("unmask", "torch", "transformers", "peft", "bitsandbytes", "seqeval")
    return {package: importlib.metadata.version(package) for package in packages}


def run_of(settings: InstructSettings, built: Built, weights_name: str) -> Run:
    """The identity of a tuned model: system and its settings, backbone, recipe, data, seed."""
    config = f"instruct {describe(settings.system)}"
    if settings.start_from is not None:
        config += f"{AFTER}{_first_stage(settings.start_from, weights_name).id}"
    if not settings.adapter:
        config += ", untuned"
    return Run(weights_name, built.task, config, settings.seed, settings.recipe, built.fingerprint)


def _first_stage(folder: Path, weights_name: str) -> Run:
    """The run whose adapter is gone on from.

    Raises:
        FileNotFoundError: when the folder holds no finished adapter.
        ValueError: when it was tuned on another backbone.
    """
    from unmask.instruct.training import read_summary

    read_summary(folder)
    first = Run.from_dict(json.loads((folder / RUN_FILE).read_text(encoding="utf-8")))
    if first.backbone != weights_name:
        raise ValueError(f"{folder} was tuned on {first.backbone}, not on {weights_name}")
    return first


def find_run(settings: InstructSettings, built: Built, weights_name: str) -> Run:
    """The run that the settings name; with another recipe or first stage, the only one there is.

    So the flags of `train` need not be said again.

    Raises:
        ValueError: when several runs differ in their recipe or first stage only.
    """
    named = run_of(settings, built, weights_name)
    if not settings.adapter or (settings.out / "runs" / named.id / RUN_FILE).exists():
        return named
    paths = sorted((settings.out / "runs").glob(f"*/{RUN_FILE}"))
    runs = [Run.from_dict(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    same = [run for run in runs if _plain(run) == _plain(named)]
    if len(same) > 1:
        raise ValueError(
            f"{settings.out} holds {len(same)} runs of {named.name} that differ in their recipe "
            "or first stage: give the flags of the one that is meant"
        )
    return same[0] if same else named


def _plain(run: Run) -> Run:
    """The run without what the flags of `train` alone decide."""
    return replace(run, recipe=Recipe(), config=run.config.partition(AFTER)[0])


def decoding_of(settings: InstructSettings) -> Decoding:
    """The system's decoding with what the user changed."""
    decoding = settings.system.decoding()
    if settings.decoding != "system":
        decoding = replace(decoding, sample=False, num_beams=1, repetition_penalty=1.0)
    if settings.max_new_tokens is not None:
        decoding = replace(decoding, max_new_tokens=settings.max_new_tokens)
    return decoding
