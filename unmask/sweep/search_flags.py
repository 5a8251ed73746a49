"""The flags of `--search`, apart from those of a sweep that trains a list of configurations."""

from __future__ import annotations

import argparse

from unmask.sweep.plan import SearchSettings


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags to the parser of a sweep."""
    search = parser.add_argument_group("search (in place of training every configuration)")
    default = SearchSettings()
    search.add_argument(
        "--search",
        action="store_true",
        help="let a sampler propose configurations; --configs are tried early",
    )
    search.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="configurations to try, those of earlier calls included "
        f"(default: {default.num_trials})",
    )
    search.add_argument(
        "--groups", type=int, metavar="N", help="bits of a configuration (default: one a layer)"
    )
    search.add_argument(
        "--sampler",
        metavar="NAME",
        help="auto, neighbours, tpe or brute-force; auto is brute-force where the trials suffice, "
        "else neighbours (default: auto)",
    )
    search.add_argument(
        "--storage",
        metavar="URL",
        help="where Optuna keeps the trials: a URL that it knows or a file (default: "
        "search.journal in --out)",
    )
    search.add_argument(
        "--at-a-time",
        type=int,
        metavar="N",
        help=f"configurations proposed and trained together (default: {default.at_a_time})",
    )
    search.add_argument(
        "--search-seed", type=int, metavar="N", help=f"of the proposals (default: {default.seed})"
    )


def search_from(arguments: argparse.Namespace) -> SearchSettings | None:
    """The settings of a search, or None without `--search`.

    Raises:
        ValueError: for a value that cannot be, and for a search's flag without `--search`.
    """
    given = {
        "num_trials": arguments.trials,
        "num_groups": arguments.groups,
        "sampler": arguments.sampler,
        "storage": arguments.storage,
        "at_a_time": arguments.at_a_time,
        "seed": arguments.search_seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.search:
        return SearchSettings(first=arguments.configs or (), **given)
    if given:
        raise ValueError(
            "--trials, --groups, --sampler, --storage, --at-a-time and --search-seed are flags of "
            "a search: add --search"
        )
    return None
