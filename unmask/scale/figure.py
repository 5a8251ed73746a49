"""The study's figure and table, from the ledger alone: validation F1 against the checkpoint.

The paper's figure 2: one panel a task, one line a variant with a band of one standard deviation
over seeds. The one thing that is easy to get wrong: means over different seeds must not be
compared, so a difference is taken over the seeds that both variants have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unmask.results.figures import COLORS
from unmask.results.run import RunResult
from unmask.results.statistics import Comparison, Summary, compare, f1_of, summarize
from unmask.scale.plan import VARIANTS, parse_name, variant_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIANT_COLORS = dict(zip(VARIANTS, ("series-3", "series-1", "series-2"), strict=True))
Scores = dict[str, dict[int, dict[int, float]]]
"""Variant -> checkpoint -> seed -> validation F1."""


@dataclass(frozen=True)
class TaskScores:
    """All scores of one task."""

    task: str
    scores: Scores

    @property
    def checkpoints(self) -> list[int]:
        """Those that anything was fine-tuned from."""
        return sorted({number for found in self.scores.values() for number in found})

    def summary(self, variant: str, checkpoint: int) -> Summary | None:
        """Mean and spread over seeds, None where nothing is known."""
        of_seeds = self.scores.get(variant, {}).get(checkpoint)
        return summarize(of_seeds.values()) if of_seeds else None

    def gain(
        self, checkpoint: int, first: str = VARIANTS[2], second: str = VARIANTS[1]
    ) -> Comparison | None:
        """First variant less the second at one checkpoint, paired over seeds."""
        left, right = (self.scores.get(name, {}).get(checkpoint, {}) for name in (first, second))
        return compare(left, right)


def scores_by_task(results: Iterable[RunResult]) -> list[TaskScores]:
    """One per task, in order of appearance; runs of other experiments are passed over.

    Raises:
        ValueError: when results differ in data, recipe or pre-training, which would be averaged.
    """
    found: dict[str, Scores] = {}
    made_with: dict[tuple[str, str], set[tuple[str, str, str]]] = {}
    for result in results:
        run, parsed, variant = result.run, parse_name(result.run.backbone), variant_of(result.run)
        f1 = f1_of(result, "validation")
        if parsed is None or variant is None or f1 is None:
            continue
        kind, pretraining, number = parsed
        identity = (pretraining, run.data_fingerprint, repr(run.recipe))
        made_with.setdefault((run.task, kind), set()).add(identity)
        of_variant = found.setdefault(run.task, {}).setdefault(variant, {})
        of_variant.setdefault(number, {})[run.seed] = f1
    mixed = [f"{task}, {kind}" for (task, kind), seen in made_with.items() if len(seen) > 1]
    if mixed:
        raise ValueError(
            f"the ledger mixes several pre-trainings, recipes or versions of the data for "
            f"{'; '.join(mixed)}: their mean would mean nothing; use one --out for each"
        )
    return [TaskScores(task, scores) for task, scores in found.items()]


def checkpoint_figure(of_tasks: list[TaskScores]) -> Figure:
    """One panel per task.

    Raises:
        ValueError: when there is nothing to draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not of_tasks:
        raise ValueError(
            "the ledger has no fine-tuning of any checkpoint: run `python -m unmask.scale finetune`"
        )
    columns = min(2, len(of_tasks))
    rows = -(-len(of_tasks) // columns)
    figure = Figure(figsize=(5.6 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, study in zip(grid, of_tasks, strict=False):
        _draw(axes, study)
    for axes in grid[len(of_tasks) :]:
        axes.set_visible(False)
    return figure


def checkpoint_table(study: TaskScores) -> str:
    """Markdown: mean and standard deviation of every variant at every checkpoint, and the gain."""
    head = f"| checkpoint | {' | '.join(VARIANTS)} | without less with mask |"
    lines = [f"{study.task}, validation micro F1", "", head, "|---" * 5 + "|"]
    for number in study.checkpoints:
        cells = [_cell(study.summary(variant, number)) for variant in VARIANTS]
        gain = study.gain(number)
        cells.append("" if gain is None else f"{gain.difference:+.3f}")
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _draw(axes: Axes, study: TaskScores) -> None:
    from matplotlib.ticker import MaxNLocator

    for variant in VARIANTS:
        points = [
            (number, summary)
            for number in study.checkpoints
            if (summary := study.summary(variant, number)) is not None
        ]
        if not points:
            continue
        color = COLORS[VARIANT_COLORS[variant]]
        xs = [number for number, _ in points]
        means = [summary.mean for _, summary in points]
        spreads = [summary.sd or 0.0 for _, summary in points]
        axes.plot(xs, means, color=color, lw=1.7, marker="o", ms=3, label=variant)
        low = [mean - sd for mean, sd in zip(means, spreads, strict=True)]
        high = [mean + sd for mean, sd in zip(means, spreads, strict=True)]
        axes.fill_between(xs, low, high, color=color, alpha=0.18, lw=0)
    axes.set_title(study.task.replace("$", r"\$"), fontsize=10, color=COLORS["ink"])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("checkpoint of pre-training")
    axes.set_ylabel("validation micro F1, strict")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=COLORS["grid"], lw=0.8)
    axes.legend(frameon=False, fontsize=8)


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return ""
    return f"{summary.mean:.3f}" + ("" if summary.sd is None else f" ± {summary.sd:.3f}")
