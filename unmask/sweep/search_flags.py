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
        "else tpe with --search-over and neighbours without (default: auto)",
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
    search.add_argument(
        "--search-over",
        nargs="+",
        metavar="FIELD=VALUES",
        help="search the recipe too: learning_rate=1e-4..1e-2 or =1e-3,1e-2, lora_rank=8,16, "
        "lora_targets=q_proj+v_proj,q_proj+k_proj+v_proj+o_proj",
    )
    search.add_argument(
        "--prune",
        action="store_true",
        help="end a trial after a quarter or half of its steps when its validation F1 there is "
        "below the median of those that finished",
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
        "over": None if arguments.search_over is None else tuple(arguments.search_over),
        "prune": arguments.prune or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if arguments.search:
        return SearchSettings(first=arguments.configs or (), **given)
    if given:
        raise ValueError(
            "--trials, --groups, --sampler, --storage, --at-a-time, --search-seed, --search-over "
            "and --prune are flags of a search: add --search"
        )
    return None
