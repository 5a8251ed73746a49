"""The pages keep up with the package: every message, every public name, every command."""

import ast
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "unmask"


def load(name: str):
    """A file of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_every_error_message_has_a_sentence_and_no_sentence_is_left_over():
    errors = load("_errors")
    raised, written = errors.messages(), errors.documented()
    assert len(raised) > 300
    lacking = sorted(f"{pattern} ({raised[pattern]})" for pattern in set(raised) - set(written))
    assert not lacking, "add these to docs/errors.md (python docs/_errors.py prints rows)"
    assert sorted(set(written) - set(raised)) == []
    assert all(sentence.endswith(".") for sentence in written.values())


def public_definitions():
    """(where, node) of every public module, class, function, method and property."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if any(part.startswith("_") and part != "__init__.py" for part in path.parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(ROOT).as_posix()
        yield name, tree
        yield from members(name, tree)


def members(where: str, parent: ast.Module | ast.ClassDef):
    for node in parent.body:
        is_definition = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if is_definition and not node.name.startswith("_"):
            yield f"{where}: {node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from members(f"{where}: {node.name}", node)


def test_every_public_name_has_a_docstring():
    found = list(public_definitions())
    assert len(found) > 1000
    # What a registered overload or an abstract base says need not be said again.
    bare = [where for where, node in found if not ast.get_docstring(node)]
    assert bare == []


def test_every_public_module_has_its_place_in_the_reference():
    rooms = load("_pages").rooms()
    on_pages = {module for modules in rooms.values() for module in modules}
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if path.name == "__init__.py" or not path.name.startswith("_")
    }
    assert on_pages == modules


def test_the_page_of_commands_has_every_command():
    from unmask.cli import parsers

    page = load("_pages").commands_page()
    for name in parsers()[1]:
        assert f"\n## unmask {name}\n" in page


def test_every_test_that_a_page_names_is_there():
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/concepts/lessons.md").read_text()))
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert {name for name in named if f"def {name}(" not in tests} == set()


@pytest.mark.parametrize("path", sorted(ROOT.glob("docs/**/*.md")), ids=lambda path: path.name)
def test_python_on_a_page_can_be_parsed(path):
    blocks = path.read_text(encoding="utf-8").split("```python\n")[1:]
    for block in blocks:
        ast.parse(block.partition("```")[0])
