"""What all figures share: colours, an empty canvas, a legend, and the ways out of matplotlib.

matplotlib's object-oriented interface only, so drawing leaves no global state behind. `to_svg`
gives SVG to place inside a page: colours and fonts become CSS variables of that page, which is
how one figure serves light and dark. The one thing that is easy to get wrong: two SVGs in one
page share one name space of ids, so each needs its own prefix.
"""

from __future__ import annotations

import io
import os
import re
from html import escape
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {
    "ink": "#1d2530",
    "muted": "#66717e",
    "grid": "#dde2e7",
    "surface": "#fdfdfe",
    "series-1": "#1f6fb8",
    "series-2": "#c2570c",
    "series-3": "#2e7d4f",
    "series-4": "#7a4fa3",
    "ceiling": "#a8324a",
}
"""CSS variable (without dashes in front) -> colour in files and on a light page."""


def new_figure(size: tuple[float, float], grid: Literal["x", "y"] = "y") -> tuple[Figure, Axes]:
    """An empty figure of that many inches, with lines across at the ticks of one axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(COLORS["muted"])
    axes.grid(axis=grid, color=COLORS["grid"], lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=COLORS["muted"], labelcolor=COLORS["ink"], labelsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=COLORS["ink"], fontsize=9.5)
    return figure, axes


def add_legend(axes: Axes, size: tuple[float, float]) -> None:
    """Name what was drawn with a label, above the figure, in as few rows as fit."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    # As many entries in a row as fit: about 13 letters to the inch, and 8 for the line sample.
    width = max(len(label) for label in labels) + 8
    columns = max(1, min(len(labels), int(size[0] * 13 / width)))
    legend = axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.01),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=COLORS["ink"],
    )
    legend.set_in_layout(True)


def literal(text: str) -> str:
    """Text without matplotlib's formulas."""
    return text.replace("$", r"\$")


def to_svg(figure: Figure, id_prefix: str, label: str) -> str:
    """An `<svg>` element for use inside HTML, with real text and no outside references.

    Args:
        figure: any figure drawn with the colours of this module.
        id_prefix: unique among the figures of a page.
        label: what the figure shows, for those who do not see it.
    """
    import matplotlib as mpl

    if (layout := figure.get_layout_engine()) is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")  # saving would do it twice more, half of all the time
    stream = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": id_prefix}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # A style element would reach out of the figure into the page.
    text = re.sub(r"<!--.*?-->|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{id_prefix}-', text)
    text = re.sub(r'xlink:href="#', f'href="#{id_prefix}-', text)
    text = text.replace("url(#", f"url(#{id_prefix}-").replace("xlink:href=", "href=")
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    text = re.sub(r"'DejaVu Sans Mono'[^;\"]*", "var(--mono)", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "var(--sans)", text)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None, "matplotlib writes a viewBox"
    head = f'<svg {box.group()} role="img" aria-label="{escape(label)}">'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)


def save_png(figure: Figure, path: str | os.PathLike[str], dpi: int = 200) -> None:
    """Write the figure on a light background."""
    figure.savefig(path, format="png", dpi=dpi, facecolor=COLORS["surface"])
