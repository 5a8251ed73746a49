"""The pins of `make test-oldest` are the lower bounds that pyproject.toml promises."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent


def lower_bounds() -> dict[str, str]:
    """Name -> the version after ">=", of what is installed for use and of Triton."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    texts = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        texts += extra
    texts += [one for one in project["dependency-groups"]["dev"] if one.startswith("triton")]
    found = {}
    for requirement in map(Requirement, texts):
        (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
        found[requirement.name] = bound
    return found


def test_the_oldest_environment_pins_every_lower_bound():
    lines = (ROOT / "requirements-oldest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    bounds = lower_bounds()
    assert pins.keys() == bounds.keys()
    for name, bound in bounds.items():
        assert Version(pins[name]) == Version(bound), name
