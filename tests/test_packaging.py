"""What goes into a release, as pyproject.toml says it."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_file_beside_the_code_is_shipped():
    package = ROOT / "unmask"
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["unmask"]
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".py"}
    assert {path for path in files if path.suffix != ".pyc"} <= shipped


def test_commands_and_plugins_that_installing_registers_are_there():
    from importlib import import_module

    project = SETTINGS["project"]
    names = [*project["scripts"].values(), *project["entry-points"]["spacy_factories"].values()]
    for name in names:
        module, _, function = name.partition(":")
        assert callable(getattr(import_module(module), function))
