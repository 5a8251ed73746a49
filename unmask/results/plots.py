"""Figures from results: F1 over configurations in Gray order, and learning curves.

The one thing that is easy to get wrong: lines between configurations that were not run, or that
are of different lengths, would show a trend that nobody measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unmask.results.figures import COLORS, add_legend, literal, new_figure
from unmask.results.groups import in_gray_order, is_bit_code
from unmask.results.run import RunResult
from unmask.results.statistics import Summary, f1_of, seed_scores, summarize

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPLIT_COLORS = {"validation": COLORS["series-1"], "test": COLORS["series-2"]}
_MAX_NAMED = 64
"""Configurations that still have their names under the axis."""
_BASELINE_DASHES = ("--", ":", "-.")


def configuration_figure(
    results: Sequence[RunResult],
    baselines: Mapping[str, Sequence[RunResult]] | None = None,
    ceiling: float | None = None,
    ceiling_caption: str = "best F1 a causal labeler can reach",
    chosen: str | None = None,
    size: tuple[float, float] = (8.0, 3.9),
) -> Figure:
    """Mean F1 with a band of one standard deviation over configurations (the paper's figure 1).

    Args:
        results: decoder runs that differ in configuration and seed only.
        baselines: name -> runs; each is a horizontal line per split, in the split's colour.
        ceiling: an F1 to draw as a line.
        ceiling_caption: what that line is.
        chosen: the configuration to mark with a ring.
        size: width and height in inches.
    """
    figure, axes = new_figure(size)
    summaries = {split: _summaries(results, split) for split in SPLIT_COLORS}
    codes = in_gray_order({code for found in summaries.values() for code in found})
    for split, found in summaries.items():
        _draw_split(axes, codes, found, split, chosen)
    splits = [split for split in SPLIT_COLORS if summaries[split] or not codes]
    for number, (name, runs) in enumerate((baselines or {}).items()):
        _draw_baseline(axes, name, runs, splits, _BASELINE_DASHES[number % len(_BASELINE_DASHES)])
    if ceiling is not None:
        _draw_ceiling(axes, ceiling, ceiling_caption)
    _name_configurations(axes, codes)
    axes.set_ylabel("micro F1, strict")
    add_legend(axes, size)
    return figure


def curve_figure(
    curves: Mapping[str, Sequence[Sequence[float]]],
    ylabel: str = "training loss",
    size: tuple[float, float] = (8.0, 3.0),
    max_points: int = 200,
) -> Figure:
    """One line per name: the mean over its curves (seeds), step by step, on a log scale.

    Curves of more than `max_points` steps are drawn as means of as many equal stretches. Steps
    where a value is not finite (a diverged run) are left out of the mean.
    """
    figure, axes = new_figure(size)
    lowest = math.inf
    for number, (name, of_seeds) in enumerate(curves.items()):
        steps, means = _thinned(_mean_curve(of_seeds), max_points)
        lowest = min([lowest, *means])
        axes.plot(steps, means, label=literal(name), **_line_style(number))
    _use_log_scale(axes, lowest)
    axes.set_xlim(left=0)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(ylabel)
    add_legend(axes, size)
    return figure


def score_figure(
    curves: Mapping[str, Sequence[Sequence[tuple[float, float]]]],
    size: tuple[float, float] = (8.0, 3.0),
) -> Figure:
    """Validation F1 on the way: one line per name, the mean over its curves (seeds).

    A curve is (optimizer step, F1) after each epoch. Where some runs ended earlier, a mean is of
    those that were scored there. Colours are those that `curve_figure` gives the same names.
    """
    figure, axes = new_figure(size)
    for number, (name, of_seeds) in enumerate(curves.items()):
        by_step: dict[float, list[float]] = {}
        for step, f1 in (point for curve in of_seeds for point in curve):
            by_step.setdefault(step, []).append(f1)
        steps = sorted(by_step)
        means = [sum(by_step[step]) / len(by_step[step]) for step in steps]
        axes.plot(steps, means, marker="o", ms=3.5, label=literal(name), **_line_style(number))
    axes.set_xlim(left=0)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("micro F1, strict, validation")
    add_legend(axes, size)
    return figure


def size_figure(
    points: Sequence[tuple[int, Summary]], size: tuple[float, float] = (6.0, 3.4)
) -> Figure:
    """Mean validation F1 over numbers of training sentences, with a band of one deviation."""
    figure, axes = new_figure(size)
    sizes, means = [one[0] for one in points], [one[1].mean for one in points]
    spreads = [one[1].sd or 0.0 for one in points]
    color = SPLIT_COLORS["validation"]
    axes.plot(sizes, means, color=color, marker="o", ms=4, lw=1.6)
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    axes.fill_between(sizes, low, high, color=color, alpha=0.18, lw=0)
    if sizes:
        axes.set_xscale("log")
        axes.set_xticks(sizes, [str(one) for one in sizes])
        axes.minorticks_off()
    axes.set_xlabel("training sentences")
    axes.set_ylabel("micro F1, strict, validation")
    return figure


def _line_style(number: int) -> dict[str, Any]:
    """Colour first, then dashes: no two of the first sixteen lines look alike."""
    colors = [color for name, color in COLORS.items() if name.startswith("series")]
    dashes = ("-", "--", "-.", ":")[number // len(colors) % 4]
    return {"color": colors[number % len(colors)], "ls": dashes, "lw": 1.6}


def _use_log_scale(axes: Axes, lowest: float) -> None:
    """Late losses differ by little, which only a log scale shows; it needs values above 0."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if lowest <= 0 or math.isinf(lowest):
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _name_configurations(axes: Axes, codes: list[str]) -> None:
    axes.set_xlim(-0.6, max(len(codes), 1) - 0.4)
    if len(codes) > _MAX_NAMED:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(codes)} configurations in Gray order")
        return
    axes.set_xticks(range(len(codes)), codes, rotation=90 if len(codes) > 8 else 0)
    for tick in axes.get_xticklabels():
        tick.set_fontfamily("monospace")
    axes.set_xlabel("open groups, input side left (Gray order)")


def _draw_split(
    axes: Axes, codes: list[str], found: dict[str, Summary], split: str, chosen: str | None
) -> None:
    color = SPLIT_COLORS[split]
    has_spread = any(one.sd is not None for one in found.values())
    label: str | None = f"{split}, mean ± sd" if has_spread or not found else f"{split}, one seed"
    for xs in _stretches(codes, found):
        stretch = [codes[x] for x in xs]
        means = [found[code].mean for code in stretch]
        spreads = [found[code].sd or 0.0 for code in stretch]
        marker = ("o" if split == "validation" else "s") if len(xs) <= _MAX_NAMED else None
        axes.plot(xs, means, color=color, marker=marker, ms=4, lw=1.7, label=label)
        label = None
        if len(xs) == 1:
            axes.errorbar(xs, means, yerr=spreads, color=color, lw=1.2, capsize=2)
            continue
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        axes.fill_between(xs, low, high, color=color, alpha=0.18, lw=0)
    if chosen in found and split == "validation":
        ring: dict[str, Any] = {"mfc": "none", "mec": COLORS["ink"], "mew": 1.4, "ls": "none"}
        at, mean = codes.index(str(chosen)), found[str(chosen)].mean
        axes.plot(at, mean, marker="o", ms=11, label=f"chosen: {chosen}", **ring)


def _draw_ceiling(axes: Axes, ceiling: float, caption: str) -> None:
    axes.axhline(ceiling, color=COLORS["ceiling"], lw=1.2, ls=(0, (6, 3)))
    axes.annotate(
        f"{literal(caption)}: {ceiling:.3f}",
        (0.99, ceiling),
        xycoords=("axes fraction", "data"),
        ha="right",  # where all causal, at the left, does not cross it
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
        color=COLORS["ceiling"],
    )
    axes.margins(y=0.12)


def _stretches(codes: list[str], found: Mapping[str, Summary]) -> list[list[int]]:
    """Positions to be joined by a line: neighbours, equally long; layer sets stand alone."""
    stretches: list[list[int]] = []
    for x, code in enumerate(codes):
        previous = codes[x - 1] if x else ""
        joins = is_bit_code(code) and is_bit_code(previous) and len(code) == len(previous)
        if code not in found:
            continue
        if joins and previous in found:
            stretches[-1].append(x)
        else:
            stretches.append([x])
    return stretches


def _draw_baseline(
    axes: Axes, name: str, runs: Sequence[RunResult], splits: list[str], dashes: str
) -> None:
    for split in splits:
        of_split = [f1 for run in runs if (f1 := f1_of(run, split)) is not None]
        if of_split:
            axes.axhline(summarize(of_split).mean, color=SPLIT_COLORS[split], ls=dashes, lw=1.3)
    # The colour says which split, so the legend names each baseline once, without colour.
    axes.plot([], [], color=COLORS["muted"], ls=dashes, lw=1.3, label=literal(name))


def _summaries(results: Sequence[RunResult], split: str) -> dict[str, Summary]:
    scores = seed_scores(results, split)
    return {code: summarize(of_seeds.values()) for code, of_seeds in scores.items()}


def _mean_curve(of_seeds: Sequence[Sequence[float]]) -> list[float]:
    """The mean at each step over the curves that reach it with a finite value."""
    means: list[float] = []
    for step in range(max(map(len, of_seeds), default=0)):
        here = [curve[step] for curve in of_seeds if step < len(curve)]
        finite = [value for value in here if math.isfinite(value)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    return means


def _thinned(values: list[float], max_points: int) -> tuple[list[float], list[float]]:
    """(steps from 1, means) of at most `max_points` stretches of equal length."""
    length = max(1, math.ceil(len(values) / max_points))
    steps, means = [], []
    for start in range(0, len(values), length):
        stretch = [value for value in values[start : start + length] if math.isfinite(value)]
        if stretch:
            steps.append(start + (min(length, len(values) - start) + 1) / 2)
            means.append(sum(stretch) / len(stretch))
    return steps, means
