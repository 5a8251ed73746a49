"""Let chosen layers of a decoder LLM look right, and find out which.

The public names are imported when they are first used, so that `import unmask` is instant.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unmask.config import UnmaskConfig
    from unmask.data.tasks import load_task
    from unmask.lora import LoraSettings
    from unmask.model import UnmaskedForTokenClassification
    from unmask.recipe import Recipe

__all__ = [
    "LoraSettings",
    "Recipe",
    "UnmaskConfig",
    "UnmaskedForTokenClassification",
    "load_task",
]

_HOMES = {
    "LoraSettings": "unmask.lora",
    "Recipe": "unmask.recipe",
    "UnmaskConfig": "unmask.config",
    "UnmaskedForTokenClassification": "unmask.model",
    "load_task": "unmask.data.tasks",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("unmask")
    if name not in _HOMES:
        raise AttributeError(f"module 'unmask' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
