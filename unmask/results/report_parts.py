"""Pieces that several parts of the HTML page use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from unmask.results.figures import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Size = tuple[float, float]
"""Inches."""


MAX_DRAWN_SECTIONS = 10
"""Pages of more sections have no figures: they would take minutes, and nobody scrolls there."""


@dataclass(frozen=True)
class Figures:
    """Puts figures into a page, or, where `are_drawn` is false, leaves all of them out."""

    are_drawn: bool = True

    def html(
        self,
        name: str,
        label: str,
        draw: Callable[[Size], Figure],
        sizes: tuple[Size, Size],
        caption: str,
    ) -> str:
        """See `figure_html`."""
        return figure_html(name, label, draw, sizes, caption) if self.are_drawn else ""


def figure_html(
    name: str, label: str, draw: Callable[[Size], Figure], sizes: tuple[Size, Size], caption: str
) -> str:
    """A figure drawn twice, for wide pages and for phones; the page shows one.

    Args:
        name: unique in the page.
        label: for those who do not see it.
        draw: makes the figure in a given size.
        sizes: for wide pages, for phones.
        caption: plain text.
    """
    drawn = "".join(
        f'<div class="{width}">{to_svg(draw(size), f"{name}{width}", label)}</div>'
        for width, size in zip(("wide", "narrow"), sizes, strict=True)
    )
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"


def folded(title: str, content: str) -> str:
    """Content under a title that opens it."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"


def with_contents(number: int, parts: Mapping[str, str]) -> str:
    """Parts of section `number` under their titles, with links to them in front; no empty ones."""
    shown = {title: content for title, content in parts.items() if content}
    places = {title: f"{title.lower().replace(' ', '-')}-{number}" for title in shown}
    links = "".join(f'<a href="#{places[title]}">{escape(title)}</a>' for title in shown)
    bodies = "\n".join(
        f'<h3 id="{places[title]}">{escape(title)}</h3>{content}'
        for title, content in shown.items()
    )
    return f'<nav class="contents" aria-label="Contents">{links}</nav>\n{bodies}'


def listed(sentences: Sequence[str]) -> str:
    """Sentences as points; nothing for none."""
    items = "".join(f"<li>{escape(one)}</li>" for one in sentences)
    return f"<ul>{items}</ul>" if items else ""


def warned(title: str, warnings: Iterable[str]) -> str:
    """A box of warnings; nothing for none."""
    items = "".join(f"<li>{escape(one)}</li>" for one in warnings)
    return f'<aside class="warnings"><b>{title}</b><ul>{items}</ul></aside>' if items else ""
