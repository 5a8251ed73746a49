"""Packages that only some flags need, and that are installed as extras."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(name: str, extra: str) -> ModuleType:
    """The module `name`.

    Raises:
        ModuleNotFoundError: saying what to install.

    >>> import_extra("json", "ray").__name__
    'json'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"{name} is not installed: pip install 'unmask[{extra}]'", name=name
        ) from None
