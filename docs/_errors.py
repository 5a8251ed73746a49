"""Every error message of the package as a pattern, and which of them `errors.md` lacks.

    python docs/_errors.py      prints what errors.md lacks, and what it has too much

A message is read from the source: its constant parts, with … for what is filled in. Messages that
only pass on another error's text (less than a few letters of their own) are left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "unmask"
SHORTEST = 6
"""Letters of its own that a message must have to be one."""


def messages() -> dict[str, str]:
    """Pattern -> the first file that raises it."""
    found: dict[str, str] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for pattern in _raised(ast.parse(path.read_text(encoding="utf-8"))):
            if len(re.sub(r"[^A-Za-z]", "", pattern)) >= SHORTEST:
                found.setdefault(pattern, path.relative_to(PACKAGE.parent).as_posix())
    return found


def documented() -> dict[str, str]:
    """Pattern -> sentence, from the tables of errors.md."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    rows = [line[5:-2].split(" `` | ") for line in text.splitlines() if line.startswith("| `` ")]
    return {pattern.replace("\\|", "|"): sentence for pattern, sentence in rows}


def _raised(tree: ast.Module) -> Iterator[str]:
    constants = _constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        for argument in node.exc.args:
            named = argument.func if isinstance(argument, ast.Call) else argument
            if isinstance(named, ast.Name):
                argument = constants.get(named.id, argument)
            pattern = re.sub("…+", "…", _pattern(argument))
            if pattern != "…":
                yield " ".join(pattern.split())
                break


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What names of the module stand for; functions stand for what they return at the end."""
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            found |= {one.id: node.value for one in node.targets if isinstance(one, ast.Name)}
        if isinstance(node, ast.FunctionDef):
            last = node.body[-1]
            if isinstance(last, ast.Return) and last.value is not None:
                found[node.name] = last.value
    return found


def _pattern(node: ast.expr) -> str:
    """The constant parts of an expression, with … for the rest."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else "…"
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _pattern(node.left) + _pattern(node.right)
    return "…"


if __name__ == "__main__":
    raised, written = messages(), documented()
    for pattern, place in raised.items():
        if pattern not in written:
            print(f"lacks  | `` {pattern} `` |  ({place})")
    for pattern in written:
        if pattern not in raised:
            print(f"too much: {pattern}")
