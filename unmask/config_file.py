"""`--config FILE`: flags in YAML, read as if they stood before those on the command line.

    model: smollm2-135m
    configs: ["0000", "0110"]        # codes in quotes: YAML reads 0110 as the number 72
    seeds: [120, 121]
    recipe:
      preset: quick
      learning_rate: 0.002

A key is a flag without its dashes; `recipe` holds fields of `unmask.recipe.Recipe`, also those
that have no flag. `--recipe.learning_rate 0.001` on the command line goes over both. What
`--print-config` prints can be read again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MAX_CONFIG_BYTES = 2**20
RECIPE = "recipe"
CODES = ("configs", "unmask")
"""Keys whose values are codes, which YAML must not take for numbers."""
EXAMPLE = "dotted_example"
"""The flag that is only there to be seen in --help."""
OURS = ("config", "print_config", "debug", "dry_run", "help")
"""Flags about this call, not about what is run."""


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add --config and --print-config, for parsers whose flags are parsed by `parse`."""
    parser.set_defaults(takes_config=True)
    group = parser.add_argument_group("configuration file")
    group.add_argument(
        "--config", type=Path, metavar="FILE", help="flags in YAML; those given here go first"
    )
    group.add_argument(
        "--print-config", action="store_true", help="print all settings as such a file, and stop"
    )
    group.add_argument(
        "--recipe.FIELD",
        dest=EXAMPLE,
        metavar="VALUE",
        help="any field of the recipe, also those without a flag, such as --recipe.beta2 0.98",
    )


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The flags of `argv` over those of its --config file.

    The namespace has `recipe_file` and `recipe_dotted` besides: fields of the recipe.

    Raises:
        FileNotFoundError, ValueError: when the file is not there or says what no flag says.
        SystemExit: as `ArgumentParser.parse_args`.
    """
    rest, dotted = _without_dotted(parser, argv)
    path = _config_path(rest)
    tokens, recipe = ([], {}) if path is None else _read(path, parser)
    arguments = parser.parse_args([*tokens, *rest])
    arguments.recipe_file, arguments.recipe_dotted = recipe, dotted
    return arguments


def to_yaml(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, recipe: dict[str, Any]
) -> str:
    """All settings as a file that `parse` reads; what is left open is left out."""
    import yaml

    values: dict[str, Any] = {}
    for action in parser._actions:
        key = _key(action)
        value = getattr(arguments, action.dest, None)
        if key in OURS or action.dest in (*recipe, EXAMPLE):
            continue
        if value is None or value is False or value == ():  # 0 is a value
            continue
        values[key] = _plain(value)
    values[RECIPE] = {name: _plain(value) for name, value in recipe.items()}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _key(action: argparse.Action) -> str:
    return _flag(action).lstrip("-").replace("-", "_")


def _flag(action: argparse.Action) -> str:
    """Its long form; of --x and --no-x the first."""
    return next((flag for flag in action.option_strings if flag.startswith("--")), action.dest)


def _without_dotted(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[list[str], dict[str, Any]]:
    """The tokens that argparse knows, and the fields of the recipe that were given dotted."""
    rest: list[str] = []
    dotted: dict[str, Any] = {}
    tokens = iter(argv)
    for token in tokens:
        if not token.startswith(f"--{RECIPE}."):
            rest.append(token)
            continue
        name, equals, value = token[len(f"--{RECIPE}.") :].partition("=")
        if not equals:
            value = next(tokens, None)
        if value is None:
            parser.error(f"argument {token}: expected one value")
        dotted[name.replace("-", "_")] = _scalar(value)
    return rest, dotted


def _scalar(text: str) -> Any:
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    # YAML 1.1 wants a dot in numbers like 1e-3.
    return _number(value) if isinstance(value, str) else value


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _config_path(argv: Sequence[str]) -> Path | None:
    found: Path | None = None
    for index, token in enumerate(argv):
        if token == "--config" and index + 1 < len(argv):
            found = Path(argv[index + 1])
        elif token.startswith("--config="):
            found = Path(token.partition("=")[2])
    return found


def _read(path: Path, parser: argparse.ArgumentParser) -> tuple[list[str], dict[str, Any]]:
    """The file as tokens for argparse, and its recipe."""
    values = _load(path)
    recipe = values.pop(RECIPE, None) or {}
    if not isinstance(recipe, dict) or not all(isinstance(name, str) for name in recipe):
        raise ValueError(f"{path}: {RECIPE} must hold fields and their values, got {recipe!r:.100}")
    flags = {_key(action): _flag(action) for action in parser._actions if action.dest != EXAMPLE}
    known = sorted(set(flags) - set(OURS))
    tokens: list[str] = []
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise ValueError(f"{path}: {key!r} is no setting; known are {', '.join(known)}, recipe")
        tokens += _tokens(path, name, flags[name], value)
    fields = {name.replace("-", "_"): value for name, value in recipe.items()}
    return tokens, {n: _number(v) if isinstance(v, str) else v for n, v in fields.items()}


def _load(path: Path) -> dict[Any, Any]:
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give a YAML file with --config")
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes, too large for settings")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ValueError(f"{path} is not readable YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold keys and values, such as model: tiny")
    return values


def _tokens(path: Path, name: str, option: str, value: Any) -> list[str]:
    if value is None or value is False or value == []:
        return []
    if value is True:
        return [option]
    items = value if isinstance(value, list) else [value]
    if name in CODES and not all(isinstance(item, str) for item in items):
        raise ValueError(
            f'{path}: {name} must be codes in quotes, such as "0110"; without them YAML reads '
            f"numbers, here {value!r}"
        )
    if not all(isinstance(item, str | int | float) for item in items):
        raise ValueError(f"{path}: {name} must be a value or a list of values, got {value!r:.100}")
    separator = ";" if any("," in str(item) for item in items) else ","
    return [f"{option}={separator.join(map(str, items))}"]
