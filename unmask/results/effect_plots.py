"""Figures of what layers do, and of which spans are found.

The one thing that is easy to get wrong: an effect without an interval is drawn hollow, so that a
single seed does not look like a finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from unmask.results.figures import COLORS, add_legend, literal, new_figure
from unmask.results.layer_effects import LayerEffect
from unmask.results.statistics import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_QUESTIONS = (
    ("average", "on average over the others", COLORS["series-1"], "o"),
    ("alone", "opened alone", COLORS["series-3"], "^"),
    ("last", "opened last", COLORS["series-4"], "v"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P")


def layer_figure(effects: Sequence[LayerEffect], size: tuple[float, float] = (8.0, 3.2)) -> Figure:
    """Gain in F1 from opening each group of layers, with 95 % intervals over seeds."""
    figure, axes = new_figure(size)
    axes.axhline(0, color=COLORS["muted"], lw=1.2)
    asked = [one for one in _QUESTIONS if any(getattr(effect, one[0]) for effect in effects)]
    for place, (question, label, color, marker) in enumerate(asked):
        offset = 0.2 * (place - (len(asked) - 1) / 2)
        found = [(x + offset, getattr(effect, question)) for x, effect in enumerate(effects)]
        _draw_effects(axes, [(x, one) for x, one in found if one], label, color, marker)
    names = [effect.name for effect in effects]
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 8 else 0)
    axes.set_xlim(-0.6, len(names) - 0.4)
    are_layers = any(effect.layers for effect in effects)
    what = "layers" if are_layers else "groups of layers"
    axes.set_xlabel(f"{what}, input side left")
    axes.set_ylabel("F1 open minus causal")
    add_legend(axes, size)
    return figure


def recall_figure(
    recall: Mapping[str, Mapping[str, Mapping[str, tuple[int, int]]]],
    size: tuple[float, float] = (8.0, 6.0),
) -> Figure:
    """Share of gold spans found, by what they are like, one kind of marker per configuration.

    Args:
        recall: configuration -> question -> answer -> (found, all), as in `Breakdown.recall`.
        size: width and height in inches.
    """
    figure, axes = new_figure(size, grid="x")
    rows = _recall_rows(recall)
    colors = [color for name, color in COLORS.items() if name.startswith("series")]
    for number, (name, of_questions) in enumerate(recall.items()):
        points = [
            (found / total, y)
            for y, question, answer in rows
            if question and (of_answers := of_questions.get(question, {}))
            for found, total in [of_answers.get(answer, (0, 0))]
            if total
        ]
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=colors[number % len(colors)],
            marker=_MARKERS[number % len(_MARKERS)],
            ms=6.5 if number == 0 else 5.5,
            mfc=colors[0] if number == 0 else "none",
            mew=1.5,
            ls="none",
            label=literal(name),
        )
    axes.set_yticks([y for y, _, _ in rows], [answer for _, _, answer in rows])
    for label, (_, question, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if question else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(max((y for y, _, _ in rows), default=0) + 0.7, -0.7)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("recall: share of gold spans found")
    add_legend(axes, size)
    return figure


def recall_height(recall: Mapping[str, Mapping[str, Mapping[str, tuple[int, int]]]]) -> float:
    """Inches that `recall_figure` needs to stay readable."""
    return 1.1 + 0.2 * len(_recall_rows(recall))


def _recall_rows(
    recall: Mapping[str, Mapping[str, Mapping[str, tuple[int, int]]]],
) -> list[tuple[float, str, str]]:
    """(height, question, answer) from the top; headings have no question."""
    first: Mapping[str, Any] = next(iter(recall.values()), {})
    rows: list[tuple[float, str, str]] = []
    y = 0.0
    for question, answers in first.items():
        if answers:
            rows.append((y, "", question))
            rows += [(y + index, question, one) for index, one in enumerate(answers, 1)]
            y += len(answers) + 1.4
    return rows


def _draw_effects(
    axes: Axes, found: Sequence[tuple[float, Comparison]], label: str, color: str, marker: str
) -> None:
    for x, one in found:
        if one.interval is not None:
            axes.plot([x, x], one.interval, color=color, lw=1.6, alpha=0.55)
    sure = [one.interval is not None for _, one in found]
    for is_sure, fill in ((True, color), (False, "none")):
        points = [(x, one.difference) for (x, one), has in zip(found, sure, strict=True)]
        points = [point for point, has in zip(points, sure, strict=True) if has is is_sure]
        if points:
            xs, ys = zip(*points, strict=True)
            shape: dict[str, Any] = {"marker": marker, "mfc": fill, "mec": color, "mew": 1.5}
            named = label if is_sure or not any(sure) else None
            axes.plot(xs, ys, color=color, ls="none", ms=6, label=named, **shape)
