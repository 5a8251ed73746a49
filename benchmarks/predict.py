"""How much faster does `predict` label text than transformers' own pipeline? Texts a second.

The same weights behind both: a labeler with all layers causal (configuration 0000), which stock
transformers can compute, exported with `merge_and_save` for the pipeline. Both get the same texts
and give spans; either side uses the batch size that a first round finds best for it. They take
turns text chunk by text chunk, so that a busy machine slows both, and nothing is printed unless
the two models give the same probabilities for the same sub-tokens.

    python benchmarks/predict.py --data-dir ~/uner_ewt
    python benchmarks/predict.py --weights tiny --data-dir ~/uner_ewt --texts 400
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForTokenClassification, pipeline

from unmask.data.readers import read_corpus
from unmask.errors import one_line_errors
from unmask.model import UnmaskedForTokenClassification
from unmask.training.environment import describe_environment

LABELS = ("LOC", "ORG", "PER")
BATCH_SIZES = (1, 4, 8, 16, 32)
CHUNK = 32
TOLERANCE = 1e-4
RESULTS = Path(__file__).parent / "results" / "predict.json"

Side = Callable[[Sequence[str], int], object]


def main() -> None:
    """Parse the command line and report errors in one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", default="smollm2-135m", help="a decoder")
    parser.add_argument("--data-dir", type=Path, required=True, help="a corpus with running text")
    parser.add_argument("--texts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with one_line_errors("predict.py"):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Check, choose batch sizes, time, print, write.

    Raises:
        RuntimeError: when the two models disagree; nothing is printed or written then.
    """
    torch.set_num_threads(arguments.threads)
    texts = _texts(arguments.data_dir, arguments.texts)
    labeler = _labeler(arguments.weights)
    environment = describe_environment(labeler.loaded)
    theirs, stock = _pipeline(labeler)
    labeler.merge()
    gap = _largest_gap(labeler, stock, texts)
    if not gap <= TOLERANCE:
        raise RuntimeError(f"probabilities differ by {gap:.1e}, more than {TOLERANCE:.0e}")
    sides: tuple[Side, Side] = (
        lambda chunk, size: labeler.predict(chunk, batch_size=size),
        lambda chunk, size: theirs(list(chunk), batch_size=size),
    )
    load_before = os.getloadavg()
    sizes = [_best_batch_size(side, texts[: 2 * CHUNK]) for side in sides]
    seconds = _time(sides, sizes, texts, arguments.rounds)
    ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment,
        "cores": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "texts": len(texts),
        "characters": sum(map(len, texts)),
        "gap": gap,
        "batch_size": {"unmask": sizes[0], "transformers": sizes[1]},
        "texts_per_second": {
            "unmask": round(len(texts) / median(seconds[0]), 2),
            "transformers": round(len(texts) / median(seconds[1]), 2),
        },
        "ratio": round(median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "seconds": {"unmask": seconds[0], "transformers": seconds[1]},
    }
    _print(report)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.output}")


def _texts(folder: Path, count: int) -> list[str]:
    corpus = read_corpus(folder, folder.name)
    sentences = [*corpus.test, *corpus.validation, *corpus.train]
    if len(sentences) < count:
        raise ValueError(f"{folder} has {len(sentences)} sentences, --texts {count} are asked for")
    # Spread over the corpus, which may begin with headlines.
    chosen = [sentences[index * len(sentences) // count] for index in range(count)]
    return [" ".join(sentence.words) for sentence in chosen]


def _labeler(weights: str) -> UnmaskedForTokenClassification:
    labeler = UnmaskedForTokenClassification.from_pretrained(weights, LABELS, unmask="0000")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, layer in labeler.lora_layers:
            layer.lora_B.normal_(0, 0.01, generator=generator)
    return labeler


def _pipeline(labeler: UnmaskedForTokenClassification) -> tuple[Any, Any]:
    with tempfile.TemporaryDirectory() as folder:
        labeler.merge_and_save(folder)
        stock = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    build: Any = pipeline
    theirs = build(
        "token-classification",
        model=stock,
        tokenizer=labeler.loaded.tokenizer,
        aggregation_strategy="simple",
        device="cpu",
    )
    return theirs, stock


@torch.no_grad()
def _largest_gap(
    labeler: UnmaskedForTokenClassification, stock: Any, texts: Sequence[str]
) -> float:
    gaps = []
    for text in texts[:8]:
        encoded = labeler.encoder.encode_words(text.split(), labeler.max_subtokens)
        ours = labeler.probabilities([[encoded]])[0][0]
        logits = stock(torch.tensor([encoded.token_ids])).logits[0]
        first = [place for place, label in enumerate(encoded.label_ids) if label >= 0]
        gaps.append((logits.softmax(-1)[first] - ours).abs().max().item())
    return max(gaps)


def _best_batch_size(side: Side, texts: Sequence[str]) -> int:
    seconds = {}
    side(texts[:2], 1)  # first calls pay for what later ones find ready
    for size in BATCH_SIZES:
        started = time.perf_counter()
        side(texts, size)
        seconds[size] = time.perf_counter() - started
    return min(seconds, key=seconds.__getitem__)


def _time(
    sides: Sequence[Side], sizes: Sequence[int], texts: Sequence[str], rounds: int
) -> list[list[float]]:
    """Seconds per side and round; a round is every chunk once on either side."""
    seconds = [[0.0] * rounds for _ in sides]
    for current in range(rounds):
        for turn, start in enumerate(range(0, len(texts), CHUNK)):
            chunk = texts[start : start + CHUNK]
            for side in (0, 1) if (current + turn) % 2 else (1, 0):
                started = time.perf_counter()
                sides[side](chunk, sizes[side])
                seconds[side][current] += time.perf_counter() - started
    return seconds


def _print(report: dict[str, Any]) -> None:
    environment, speed, size = (
        report["environment"],
        report["texts_per_second"],
        report["batch_size"],
    )
    low, high = report["ratio_range"]
    print(
        f"{environment['weights']}, float32 on {environment['device']}, "
        f"{environment['threads']} threads, load {report['load_average']['before'][0]:.1f}; "
        f"transformers {environment['transformers']}\n"
        f"{report['texts']} texts, {report['characters'] / report['texts']:.0f} characters each\n"
        f"transformers {speed['transformers']:>8.2f} texts/s at batch size {size['transformers']}\n"
        f"unmask       {speed['unmask']:>8.2f} texts/s at batch size {size['unmask']}\n"
        f"ratio        {report['ratio']:>8.2f} ({low} to {high})"
    )


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*pipelines sequentially on GPU.*")
    main()
