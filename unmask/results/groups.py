"""Which results may be compared: those of one task, one backbone, one recipe, the same data.

A mean over runs that differ in anything but the seed means nothing, so everything that averages
takes a `Group` or checks as one does. Encoders and other baselines have no unmasking code; they
stand beside every decoder group of the same task and data.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from unmask.recipe import Recipe, told_apart
from unmask.results.run import ENCODER, Run, RunResult

LAYERS_PREFIX = "layers:"

Sizes = Mapping[tuple[str, str], Mapping[str, int]]
"""Sentences of each split of a corpus, by (task, data fingerprint)."""


@dataclass(frozen=True)
class Group:
    """Results of one decoder on one task, and the baselines to hold them against.

    `title` is unique among groups made together: task and backbone, with the recipe and the
    data (its sentences where they are known, then its fingerprint) added only where they are needed
    to tell groups apart. `results` may be empty when only baselines were run. `baselines` maps a
    name for people ("roberta-base") to the results of that baseline.
    """

    title: str
    backbone: str
    task: str
    data_fingerprint: str
    recipe: Recipe | None
    results: tuple[RunResult, ...]
    baselines: dict[str, tuple[RunResult, ...]]

    @property
    def every_result(self) -> list[RunResult]:
        """The decoder's results, then the baselines'."""
        return [*self.results, *(one for many in self.baselines.values() for one in many)]

    @property
    def codes(self) -> list[str]:
        """The configurations there are, in Gray order."""
        return in_gray_order({one.run.config for one in self.results})


def group_results(results: Iterable[RunResult], sizes: Sizes | None = None) -> list[Group]:
    """One group per task, data, backbone and recipe, in order of appearance.

    A task with baselines only makes one group without decoder results. With `sizes`, titles tell
    parts of one corpus apart by their sentences.
    """
    decoders: dict[tuple[str, str, str, Recipe], list[RunResult]] = {}
    baselines: defaultdict[tuple[str, str], list[RunResult]] = defaultdict(list)
    for result in results:
        run = result.run
        if is_unmasking_code(run.config):
            key = (run.task, run.data_fingerprint, run.backbone, run.recipe)
            decoders.setdefault(key, []).append(result)
        else:
            baselines[run.task, run.data_fingerprint].append(result)
    groups = [
        Group("", name, task, data, recipe, tuple(found), _beside(recipe, baselines[task, data]))
        for (task, data, name, recipe), found in decoders.items()
    ]
    with_decoder = {(group.task, group.data_fingerprint) for group in groups}
    groups += [
        Group("", "baselines only", task, data, None, (), _named_baselines(found))
        for (task, data), found in baselines.items()
        if (task, data) not in with_decoder
    ]
    return [
        replace(group, title=title)
        for group, title in zip(groups, _titles(groups, sizes or {}), strict=True)
    ]


def is_unmasking_code(config: str) -> bool:
    """Whether `config` names layers of a decoder ("0110", "layers:3,4"), not a baseline."""
    return config.startswith(LAYERS_PREFIX) or (config != "" and not set(config) - {"0", "1"})


def is_bit_code(config: str) -> bool:
    """Whether `config` is a string of 0s and 1s."""
    return is_unmasking_code(config) and not config.startswith(LAYERS_PREFIX)


def is_fully_causal(config: str) -> bool:
    """Whether `config` is 0, 00, 000 and so on."""
    return is_bit_code(config) and "1" not in config


def is_fully_open(config: str) -> bool:
    """Whether `config` is 1, 11, 111 and so on."""
    return is_bit_code(config) and "0" not in config


def num_open(config: str) -> int:
    """How many bits are 1, or how many layers a layer set names.

    >>> num_open("0110"), num_open("layers:0,5-7")
    (2, 4)
    """
    if is_bit_code(config):
        return config.count("1")
    ranges = (part.partition("-") for part in config.removeprefix(LAYERS_PREFIX).split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


def in_gray_order(codes: Iterable[str]) -> list[str]:
    """Shorter codes first, each length in Gray order, layer sets last in text order.

    >>> in_gray_order({"10", "layers:2", "11", "00"})
    ['00', '11', '10', 'layers:2']
    """
    return sorted(codes, key=_gray_position)


def _gray_position(code: str) -> tuple[bool, int, int, str]:
    if not is_bit_code(code):
        return (True, 0, 0, code)
    # The position of a code word is its prefix parity read as a number.
    position, parity = 0, 0
    for bit in code:
        parity ^= bit == "1"
        position = 2 * position + parity
    return (False, len(code), position, code)


def by_configuration(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """Results per configuration in Gray order, each list by seed.

    Raises:
        ValueError: when the results differ in more than configuration and seed, so that
            averaging them would mix backbones, tasks, recipes or data.
    """
    found: dict[str, dict[int, RunResult]] = {}
    for result in results:
        _check_same_but_configuration_and_seed(result.run, results[0].run)
        found.setdefault(result.run.config, {}).setdefault(result.run.seed, result)
    return {
        code: [found[code][seed] for seed in sorted(found[code])] for code in in_gray_order(found)
    }


def _check_same_but_configuration_and_seed(run: Run, other: Run) -> None:
    differing = [
        one.name
        for one in fields(Run)
        if one.name not in ("config", "seed") and getattr(run, one.name) != getattr(other, one.name)
    ]
    if not differing:
        return
    raise ValueError(
        f"{run.name} and {other.name} differ in {', '.join(differing)}; results that differ "
        "in more than configuration and seed cannot be averaged: separate them with "
        "unmask.results.groups.group_results first"
    )


def _titles(groups: Sequence[Group], sizes: Sizes) -> list[str]:
    """Task and backbone, then recipe, data and a number, as far as they are needed."""
    titles = [f"{group.task}, {group.backbone}" for group in groups]
    additions = (
        _recipes_in_words,
        lambda alike: _sizes_in_words(alike, sizes),
        lambda alike: [f"data {group.data_fingerprint[:8]}" for group in alike],
        lambda alike: [f"no. {number}" for number, _ in enumerate(alike, 1)],
    )
    for addition in additions:
        alike: dict[str, list[int]] = {}
        for index, title in enumerate(titles):
            alike.setdefault(title, []).append(index)
        for indices in alike.values():
            words = addition([groups[index] for index in indices])
            for index, more in zip(indices, words, strict=True):
                titles[index] += f", {more}" if more and len(set(words)) > 1 else ""
    return titles


def _beside(recipe: Recipe, baselines: list[RunResult]) -> dict[str, tuple[RunResult, ...]]:
    """Those to hold a decoder against: of each baseline the runs by its recipe, else all."""
    by_recipe = {
        (one.run.backbone, one.run.config) for one in baselines if one.run.recipe == recipe
    }
    return _named_baselines(
        [
            one
            for one in baselines
            if one.run.recipe == recipe or (one.run.backbone, one.run.config) not in by_recipe
        ]
    )


def _sizes_in_words(groups: Sequence[Group], sizes: Sizes) -> list[str]:
    """Sentences of the splits in which the groups differ; empty where they are not known."""
    known = [sizes.get((group.task, group.data_fingerprint), {}) for group in groups]
    splits = dict.fromkeys(split for one in known for split in one)
    differing = [
        split for split in splits if len({one[split] for one in known if split in one}) > 1
    ]
    return [
        ", ".join(f"{one[split]} {split} sentences" for split in differing if split in one)
        for one in known
    ]


def _recipes_in_words(groups: Sequence[Group]) -> list[str]:
    recipes = list(dict.fromkeys(group.recipe for group in groups if group.recipe))
    words = dict(zip(recipes, told_apart(recipes), strict=True))
    return [words[group.recipe] if group.recipe else "" for group in groups]


def _named_baselines(results: list[RunResult]) -> dict[str, tuple[RunResult, ...]]:
    """Baselines under their backbone's name, told apart further only where they must be."""
    kinds: dict[tuple[str, str, Recipe], list[RunResult]] = {}
    for result in results:
        kinds.setdefault((result.run.backbone, result.run.config, result.run.recipe), []).append(
            result
        )
    recipes: dict[tuple[str, str], list[Recipe]] = {}
    for backbone, config, recipe in kinds:
        recipes.setdefault((backbone, config), []).append(recipe)
    named: dict[str, tuple[RunResult, ...]] = {}
    for (backbone, config, recipe), found in kinds.items():
        name = backbone if config == ENCODER else f"{backbone} ({config})"
        alike = recipes[backbone, config]
        if recipe != alike[0]:
            name = f"{name}, {told_apart(alike)[alike.index(recipe)]}"
        named[name] = tuple(found)
    return named
