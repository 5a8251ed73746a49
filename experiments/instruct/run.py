"""Every instruction-tuned system tuned small on one corpus, and an unmasked labeler beside them.

    python experiments/instruct/run.py --data-dir ~/crossner/ai --out results/instruct

Writes the first sentences of each split as a corpus of their own, so that systems and labelers see
the same ones, then goes through `unmask instruct build|train|generate|evaluate` for each system
and `python -m unmask.sweep` for the labelers, all into one ledger. What is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from unmask.cli import main as unmask
from unmask.data.sentence import SPLITS
from unmask.data.tasks import load_task
from unmask.instruct.registry import SYSTEMS, load_system
from unmask.results.ledger import Ledger

FILES = {"train": "train.conll", "validation": "dev.conll", "test": "test.conll"}
RECIPE = {
    "--preset": "quick",
    "--learning-rate": "1e-3",
    "--lora-rank": "16",
    "--lora-alpha": "32",
    "--batch-size": "1",
    "--accumulation": "1",
    "--dtype": "bfloat16",
}
TUNING = {
    "--lora-targets": "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
    "--max-subtokens": "512",
}
SWEEP = {"--batch-size": "4", "--max-subtokens": "128"}

SHORT_ANSWERS = {"uniner": 24}
"""Tokens of an answer about one type, of which there are many."""


def main() -> None:
    """Do what is asked, then write what there is as one JSON file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="with commas; none for none")
    parser.add_argument("--constrained", default=",".join(SYSTEMS), help="systems that also are")
    parser.add_argument("--configs", default="", help="codes of labelers for the sweep")
    parser.add_argument("--train", type=int, default=100, help="sentences; default: %(default)s")
    parser.add_argument("--held-out", type=int, default=6, help="sentences of dev and of test")
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    chosen = parser.parse_args()
    corpus = chosen.out / "corpus"
    if not corpus.exists():
        write_sample(chosen.data_dir, corpus, chosen.train, chosen.held_out)
    for system in chosen.systems.split(",") if chosen.systems != "none" else ():
        tune(chosen, system)
    if chosen.configs:
        sweep(chosen)
    write_summary(chosen.out)


def write_sample(data_dir: Path, folder: Path, num_train: int, num_held_out: int) -> None:
    """The first sentences of each split, as CoNLL files."""
    corpus = load_task(data_dir.name, data_dir)
    partial = folder.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        number = num_train if split == "train" else num_held_out
        lines: list[str] = []
        for sentence in corpus.split(split)[:number]:
            pairs = zip(sentence.words, sentence.tags, strict=True)
            lines += [*(f"{word}\t{tag}" for word, tag in pairs), ""]
        (partial / FILES[split]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(folder)


def tune(chosen: argparse.Namespace, system: str) -> None:
    """One system from the corpus to the ledger, with free and with constrained answers.

    Sampling and beams give way to greedy decoding, with which constrained decoding compares.
    """
    out = chosen.out / system
    common = [*("--system", system, "--model", chosen.model, "--task", chosen.data_dir.name)]
    common += ["--out", str(out), "--device", "cpu"]
    longest = min(chosen.max_new_tokens, SHORT_ANSWERS.get(system, chosen.max_new_tokens))
    own_flags = {
        "generate": ["--max-new-tokens", str(longest), "--generation-batch-size", "96"],
        "evaluate": ["--ledger", str(chosen.out / "ledger.jsonl")],
    }
    if not (out / "build.json").exists():
        command("instruct", "build", *common, "--data-dir", str(chosen.out / "corpus"))
    recipe = flags({**RECIPE, **TUNING, "--max-steps": str(chosen.steps)})
    command("instruct", "train", *common, *recipe)
    own = load_system(system).decoding()
    free = "greedy" if own.sample or own.num_beams > 1 else "system"
    decodings = [(free, "validation"), (free, "test")]
    if system in chosen.constrained.split(","):
        decodings.append(("constrained", "validation"))
    for decoding, split in decodings:
        more = ["--decoding", decoding, "--split", split]
        for step, these in own_flags.items():
            command("instruct", step, *common, *these, *more)


def sweep(chosen: argparse.Namespace) -> None:
    """Labelers on the same sentences, into the same ledger."""
    recipe = flags({**RECIPE, **SWEEP, "--max-steps": str(chosen.steps)})
    command(
        *("sweep", "--model", chosen.model, "--task", chosen.data_dir.name),
        *("--data-dir", str(chosen.out / "corpus"), "--configs", chosen.configs),
        *("--seeds", "120", "--baselines", "none", "--test", "all", "--out", str(chosen.out)),
        *recipe,
    )


def command(*arguments: str) -> None:
    """Run `unmask` with these arguments; say how long it took."""
    started = time.monotonic()
    unmask(arguments)
    print(f"-- {' '.join(arguments[:2])}: {time.monotonic() - started:.0f} s", flush=True)


def flags(values: dict[str, str]) -> list[str]:
    """Flags and values in one list."""
    return [part for pair in values.items() for part in pair]


def write_summary(out: Path) -> None:
    """What came out of every system as `summary.json`, one line a system and decoding."""
    lines = []
    for run in sorted(out.glob("*/runs/*/tuning.json")):
        tuning = json.loads(run.read_text(encoding="utf-8"))
        losses = tuning.pop("losses")
        row = {"system": run.parts[-4], "first_loss": losses[0], "last_loss": losses[-1]}
        lines.append({**row, "steps": len(losses), **tuning})
    for path in sorted(out.glob("*/runs/*/*.scores.json")):
        split, decoding = path.name.split(".")[:2]
        scores = json.loads(path.read_text(encoding="utf-8"))
        row = {"system": path.parts[-4], "split": split, "decoding": decoding}
        row |= {name: scores[name] for name in ("f1", "precision", "recall", "num_queries")}
        row |= {"own": scores["own"].get("score", scores["own"]["f1"]), **scores["parse"]}
        lines.append({**row, "answers": first_answers(path.with_name(f"{split}.{decoding}.jsonl"))})
    for one in Ledger(out / "ledger.jsonl").results():
        row = {"run": one.run.name, "id": one.run.id}
        lines.append({**row, **{f"{split}_f1": one.scores[split]["f1"] for split in one.scores}})
    text = ",\n ".join(json.dumps(_rounded(line), ensure_ascii=False) for line in lines)
    (out / "summary.json").write_text(f"[\n {text}\n]\n", encoding="utf-8")


def first_answers(outputs: Path, number: int = 2) -> list[str]:
    """What was written first."""
    with outputs.open(encoding="utf-8") as lines:
        return [json.loads(line)["output"] for line in list(lines)[1 : number + 1]]


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in values.items()
    }


if __name__ == "__main__":
    main()
