"""SYSTEMS: the name of every system and where its class lives, imported when asked for."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any

from unmask.instruct.system import System

SYSTEMS: dict[str, str] = {
    "it": "unmask.instruct.it:InstructionBaseline",
    "hum": "unmask.instruct.hum:Hum",
    "instructuie": "unmask.instruct.instructuie:InstructUIE",
    "seqgpt": "unmask.instruct.seqgpt:SeqGPT",
    "uniner": "unmask.instruct.uniner:UniNER",
}


def load_system(name: str, **settings: Any) -> System:
    """The named system with the given settings; text is converted to a setting's own kind.

    Raises:
        ValueError: for an unknown system, setting or value.
    """
    if name not in SYSTEMS:
        raise ValueError(f"unknown system {name!r}; choose one of {', '.join(SYSTEMS)}")
    module, _, attribute = SYSTEMS[name].partition(":")
    cls = getattr(importlib.import_module(module), attribute)
    defaults = {field.name: getattr(cls, field.name, None) for field in fields(cls)}
    unknown = sorted(set(settings) - set(defaults))
    if unknown:
        raise ValueError(
            f"system {name} has no setting {unknown[0]!r}; it has {', '.join(sorted(defaults))}"
        )
    return cls(**{key: _converted(key, value, defaults[key]) for key, value in settings.items()})


def _converted(key: str, value: Any, default: Any) -> Any:
    if not isinstance(value, str) or isinstance(default, str):
        return value
    if isinstance(default, bool) or default is None:
        if value.lower() not in ("true", "false"):
            raise ValueError(f"setting {key} is true or false, got {value!r}")
        return value.lower() == "true"
    if isinstance(default, int | float):
        try:
            return type(default)(value)
        except ValueError:
            raise ValueError(f"setting {key} is a number, got {value!r}") from None
    return value
