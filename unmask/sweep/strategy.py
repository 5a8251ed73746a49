"""The value of `--strategy`: how several devices train every run together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("ddp", "fsdp")


@dataclass(frozen=True)
class Strategy:
    """How processes with a device each share the work on a run.

    `kind` is "ddp" (each has the whole backbone) or "fsdp" (each has a part of every block's
    weights). `count` is how many to start on this machine; None where torchrun has started them.
    """

    kind: str
    count: int | None = None

    def __str__(self) -> str:
        return self.kind if self.count is None else f"{self.kind}:{self.count}"


def parse_strategy(text: str) -> Strategy:
    """The value of `--strategy`.

    Raises:
        ValueError: for anything but ddp and fsdp, alone or with a number from 2 on.

    >>> parse_strategy("fsdp:4")
    Strategy(kind='fsdp', count=4)
    >>> str(parse_strategy("ddp"))
    'ddp'
    """
    kind, colon, count = text.partition(":")
    is_number = count.isdecimal() and int(count) > 1
    if kind not in KINDS or (colon and not is_number):
        raise ValueError(
            f"--strategy takes ddp:N or fsdp:N, with N processes from 2 on, or ddp or fsdp under "
            f"torchrun, got {text!r}"
        )
    return Strategy(kind, int(count) if colon else None)


def check_strategy(strategy: Strategy | None, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a strategy that does not go with how this process was started.

    Raises:
        ValueError: saying what to change.
    """
    started = int(environment.get("WORLD_SIZE", "1")) if is_launched(environment) else None
    if started is not None and strategy is None:
        raise ValueError(
            f"torchrun started {started} processes, which would all do the same: say how they are "
            "to share the work, --strategy ddp or --strategy fsdp"
        )
    if started is not None and strategy is not None and strategy.count is not None:
        raise ValueError(
            f"--strategy {strategy} would start {strategy.count} processes, but torchrun has "
            f"started {started} already: say --strategy {strategy.kind}"
        )
    if started is None and strategy is not None and strategy.count is None:
        raise ValueError(
            f"--strategy {strategy} without a number is for processes that torchrun starts: say "
            f"--strategy {strategy}:2 for two on this machine"
        )


def is_launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Did torchrun start this process as one of several?"""
    return "TORCHELASTIC_RUN_ID" in environment


def follows(environment: Mapping[str, str] = os.environ) -> bool:
    """Is this one of torchrun's processes, and not the first, which writes and speaks for all?"""
    return is_launched(environment) and environment.get("RANK", "0") != "0"
