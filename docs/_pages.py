"""Pages that mkdocs makes from the package itself, so that they cannot fall behind it.

reference/commands.md   what every command says by --help
reference/index.md      the rooms of the package
reference/ROOM.md       every module of a room, from its docstrings
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

import unmask

PACKAGE = Path(unmask.__file__).parent
TOP = "unmask"
"""The room of modules that lie directly in the package."""
HELP_WIDTH = "80"


def on_files(files: Any, config: Any) -> Any:
    """Add the pages to those that lie in docs/."""
    from mkdocs.structure.files import File

    pages = {"reference/commands.md": commands_page(), "reference/index.md": index_page()}
    pages |= {f"reference/{room}.md": room_page(room) for room in rooms()}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


class Verbatim(griffe.Extension):
    """Fences doctests, which Markdown would take for quotes and references."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for everything that it finds."""
        if obj.docstring is not None:
            obj.docstring.value = "\n".join(_fenced(obj.docstring.value.splitlines()))


def _fenced(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        if not inside and line.startswith(">>>"):
            inside = True
            yield "```pycon"
        elif inside and not line.strip():
            inside = False
            yield "```"
        yield line
    if inside:
        yield "```"


def rooms() -> dict[str, list[str]]:
    """Public modules by room, both in the order of their names."""
    found: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if any(part.startswith("_") for part in parts):
            continue
        room = parts[1] if (PACKAGE / parts[min(1, len(parts) - 1)]).is_dir() else TOP
        found.setdefault(room if len(parts) > 1 else TOP, []).append(".".join(parts))
    return found


def room_page(room: str) -> str:
    """One heading a module, filled by mkdocstrings."""
    modules = rooms()[room]
    name = TOP if room == TOP else f"{TOP}.{room}"
    return f"# {name}\n\n" + "\n".join(f"::: {module}\n" for module in modules)


def index_page() -> str:
    """The rooms, each with the first sentence of its docstring."""
    lines = ["# Every module", ""]
    for room, modules in rooms().items():
        path = PACKAGE if room == TOP else PACKAGE / room
        text = _first_sentence(path / "__init__.py")
        name = TOP if room == TOP else f"{TOP}.{room}"
        lines.append(f"- [`{name}`]({room}.md), {len(modules)} modules. {text}")
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """What each command says by --help."""
    os.environ["COLUMNS"] = HELP_WIDTH
    from unmask.cli import parsers

    main, commands = parsers()
    parts = ["# Commands", "", _block(main.format_help())]
    for name, command in commands.items():
        parts += [f"## unmask {name}", "", _block(command.format_help())]
    return "\n".join(parts) + "\n"


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def _first_sentence(path: Path) -> str:
    import ast

    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split())
