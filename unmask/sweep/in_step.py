"""One search for processes that train together: the first one searches, all train what it asks for.

With a single process the search is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from unmask.ranks import Ranks

T = TypeVar("T")


def _asked_of_the_first() -> Any:
    """What the others call in place of the first rank, which alone is asked."""


class Follow:
    """Calls a method of `followed` here and, by the same call, on all other ranks.

    Only the first rank has one; the others are in `in_step`, where they take the calls.
    """

    def __init__(self, followed: Any) -> None:
        self._followed = followed

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            Ranks.here().agree(lambda: (name, arguments))
            return getattr(self._followed, name)(*arguments)

        return call


def in_step(followed: Any, lead: Callable[[Any], T]) -> T:
    """What `lead` gives, which only the first rank calls.

    Args:
        followed: what all ranks have; its methods wait for all of them.
        lead: takes `followed`, whose methods it calls with arguments that can be pickled.
    """
    ranks = Ranks.here()
    if ranks.size == 1:
        return lead(followed)
    if ranks.is_first:
        result = lead(Follow(followed))
        ranks.agree(lambda: ("", result))
        return result
    while True:
        name, given = ranks.agree(_asked_of_the_first)
        if not name:
            return given
        getattr(followed, name)(*given)
