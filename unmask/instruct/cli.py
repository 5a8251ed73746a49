"""`unmask instruct`: flags to settings, settings to one step, results to the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.console import for_notes
from unmask.instruct.registry import SYSTEMS, load_system
from unmask.recipe import COMPUTE_DTYPES, PRESETS, Recipe, load_recipe

if TYPE_CHECKING:
    from unmask.instruct.sources import SourceSettings
    from unmask.instruct.steps import InstructSettings

STEPS = ("build", "train", "generate", "evaluate", "distil")
DECODINGS = ("system", "greedy", "constrained")

WHICH = ("settings", "model", "task", "out")
"""Fields of the flags that say which system on what; each step needs them to find its folder."""
DATA = (
    *("data_dir", "train_from", "validation_from", "column"),
    *("limit_train", "limit", "names"),
)
RUN = (
    *("seed", "start_from", "preset", "learning_rate", "epochs", "max_steps", "batch_size"),
    *("accumulation", "lora_rank", "lora_alpha", "lora_targets", "max_subtokens", "optimizer"),
    *("quantization", "compute_dtype", "gradient_checkpointing"),
)
"""What tells the runs of one folder apart: `train` obeys it, later steps find the run by it."""
OUTPUTS = ("split", "decoding", "untuned")
TEACHER = ("endpoint", "teacher", "api_key_file")
PASSAGES = (*TEACHER, "passages", "out")
READ_BY: Mapping[str, tuple[str, ...]] = {
    "build": (*WHICH, *DATA),
    "train": (*WHICH, *RUN),
    "generate": (*WHICH, *RUN, *OUTPUTS, "max_new_tokens", "generation_batch_size"),
    "evaluate": (*WHICH, *RUN, *OUTPUTS, "ledger"),
    "distil of uniner": (*PASSAGES, "variant"),
    "distil of seqgpt": (*PASSAGES, "lang"),
    "distil of hum": (*TEACHER, "out", "task", *DATA),
}
"""The flags that each step reads, besides step, --system, --device and --debug."""

EXAMPLES = """\
examples:
  unmask instruct build    --system uniner --model smollm2-135m --task wnut17 --data-dir ~/wnut17
  unmask instruct train    --system uniner --model smollm2-135m --task wnut17 --max-steps 200
  unmask instruct generate --system uniner --model smollm2-135m --task wnut17 --split validation
  unmask instruct evaluate --system uniner --model smollm2-135m --task wnut17 --split validation
  unmask instruct build    --system it --set loss_on=response --set robust=true
  unmask instruct distil   --system uniner --endpoint http://127.0.0.1:8000/v1 --teacher NAME \\
      --passages texts.txt --out distilled
  unmask instruct train    --system seqgpt --start-from pretrained/runs/ID --task wnut17

With --ledger results/MODEL-TASK/ledger.jsonl the scores stand in the table of that sweep.
Settings of a system are the fields of its class; --set NAME=VALUE changes one."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All flags of the five steps; `run` refuses those that the step does not read."""
    parser.add_argument("step", choices=STEPS, help="what to do")
    what = parser.add_argument_group("what to run")
    what.add_argument("--system", choices=tuple(SYSTEMS), default="it", help="default: %(default)s")
    what.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the system; may be given again",
    )
    what.add_argument("-m", "--model", default="tiny", metavar="NAME", help="default: %(default)s")
    what.add_argument(
        "-t", "--task", default="lookright", metavar="NAME", help="default: %(default)s"
    )
    what.add_argument("--seed", type=int, default=120, metavar="N", help="default: %(default)s")
    what.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="default: results/instruct-SYSTEM-MODEL-TASK"
    )
    what.add_argument("--ledger", type=Path, metavar="FILE", help="default: ledger.jsonl in --out")
    what.add_argument(
        "--split",
        choices=("validation", "test"),
        default="validation",
        help="what is answered and scored (default: %(default)s)",
    )
    data = parser.add_argument_group("data (build)")
    data.add_argument(
        "-d",
        "--data-dir",
        "--data",
        type=Path,
        metavar="PATH",
        help="folder in any format that is read, a data set or the root of IE INSTRUCTIONS, a "
        ".json file of UniversalNER conversations, or a .jsonl file that distil wrote",
    )
    data.add_argument("--train-from", metavar="SPLIT[:SHARE]", help="such as dev:0.8")
    data.add_argument("--validation-from", metavar="SPLIT:SHARE", help="such as train:0.1")
    data.add_argument("--column", metavar="NAME", help="column or key that holds the tags")
    data.add_argument("--limit-train", type=int, metavar="N", help="first N training sentences")
    data.add_argument("--limit", type=int, metavar="N", help="first N of validation and test")
    data.add_argument("--names", type=Path, metavar="FILE", help="JSON: raw to natural labels")
    answers = parser.add_argument_group("answers (generate, evaluate)")
    answers.add_argument(
        "--decoding",
        choices=DECODINGS,
        default="system",
        help="as the system says (default), greedy, or greedy among well-formed answers only",
    )
    answers.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="of an answer (default: the system's)"
    )
    answers.add_argument(
        "--generation-batch-size",
        type=int,
        default=16,
        metavar="N",
        help="queries answered together (default: %(default)s)",
    )
    answers.add_argument("--untuned", action="store_true", help="ask the model as it is")
    _add_recipe_flags(parser.add_argument_group("recipe (train)"))
    teacher = parser.add_argument_group(
        "teacher (distil)",
        "uniner: typed entities; seqgpt: labels of many kinds; hum: preference rules for the "
        "corpus of --data, without an endpoint those that need no model",
    )
    teacher.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible, up to /v1")
    teacher.add_argument("--teacher", metavar="NAME", help="name of the teacher's model")
    teacher.add_argument("--api-key-file", type=Path, metavar="FILE", help="holds the key only")
    teacher.add_argument("--passages", type=Path, metavar="FILE", help="text, one document a line")
    teacher.add_argument(
        "--variant",
        choices=("type", "definition"),
        default="type",
        help="what uniner asks for (default: %(default)s)",
    )
    teacher.add_argument(
        "--lang",
        choices=("en", "zh"),
        default="en",
        help="of the passages, for seqgpt (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1, mps (default: cuda, else mps, else cpu)",
    )
    parser.add_argument("--debug", action="store_true", help="show where an error came from")


def _add_recipe_flags(recipe: Any) -> None:
    recipe.add_argument(
        "--start-from",
        type=Path,
        metavar="DIR",
        help="go on from the adapter of an earlier stage, OUT/runs/ID",
    )
    recipe.add_argument(
        "--preset", choices=tuple(PRESETS), help="default: tiny for tiny, else paper"
    )
    recipe.add_argument("--learning-rate", type=float, metavar="X")
    recipe.add_argument("--epochs", type=int, metavar="N")
    recipe.add_argument("--max-steps", type=int, metavar="N", help="optimizer steps")
    recipe.add_argument("-b", "--batch-size", type=int, metavar="N", help="rows a micro-batch")
    recipe.add_argument("--accumulation", type=int, metavar="N", help="micro-batches a step")
    recipe.add_argument("--lora-rank", type=int, metavar="N")
    recipe.add_argument("--lora-alpha", type=int, metavar="N")
    recipe.add_argument("--lora-targets", type=_names, metavar="NAMES", help="q_proj,v_proj")
    recipe.add_argument("--max-subtokens", type=int, metavar="N", help="length of a row")
    recipe.add_argument("--optimizer", choices=("paged_adamw_8bit", "adamw"))
    recipe.add_argument("--quantization", choices=("nf4", "none"))
    recipe.add_argument("--dtype", dest="compute_dtype", choices=COMPUTE_DTYPES)
    recipe.add_argument(
        "--gradient-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute activations again in backward: less memory, more time",
    )


def run(arguments: argparse.Namespace) -> None:
    """Do what the flags say."""
    _refuse_unread(arguments)
    console = for_notes()
    if arguments.step == "distil":
        from unmask.instruct.distilling import distil

        distil(arguments, console)
        return
    from unmask.instruct import steps

    settings = settings_from(arguments)
    if arguments.step == "build":
        steps.build(settings, console)
    elif arguments.step == "train":
        recipe = ", ".join(f"{name}={value}" for name, value in settings.recipe.to_dict().items())
        console.print(f"recipe: {recipe}")
        steps.train(settings, console)
    elif arguments.step == "generate":
        console.print(str(steps.generate(settings, arguments.split, console)))
    else:
        steps.evaluate(settings, arguments.split)
        _show(steps.scores_by_decoding(settings, arguments.split), settings, arguments.split)


def _refuse_unread(arguments: argparse.Namespace) -> None:
    """A flag that would change nothing must not look as if it did.

    Raises:
        ValueError: for a flag of other steps.
    """
    step = arguments.step
    step = f"distil of {arguments.system}" if step == "distil" else step
    if step not in READ_BY:  # a system without a teacher, which `distil` says itself
        return
    flags = argparse.ArgumentParser()
    add_flags(flags)
    for action in flags._actions:
        field = action.dest
        readers = [one for one, read in READ_BY.items() if field in read]
        given = getattr(arguments, field, action.default) != action.default
        if given and readers and step not in readers:
            flag = next(one for one in action.option_strings if one.startswith("--"))
            raise ValueError(
                f"{flag} does nothing in {step}: it is read by {', '.join(readers)}; leave it out"
            )


def settings_from(arguments: argparse.Namespace) -> InstructSettings:
    """The settings that the flags name, with a folder of their own by default."""
    from unmask.instruct.steps import InstructSettings
    from unmask.instruct.workspace import describe

    system = load_system(arguments.system, **dict(map(_setting, arguments.settings)))
    model_name = Path(arguments.model).name if Path(arguments.model).is_dir() else arguments.model
    folder = f"instruct-{describe(system)}-{model_name}-{arguments.task}"
    for letter in "/ ":
        folder = folder.replace(letter, "_")
    return InstructSettings(
        system=system,
        model=arguments.model,
        out=arguments.out or Path("results") / folder,
        recipe=recipe_from(arguments, system.recipe),
        source=source_settings(arguments),
        seed=arguments.seed,
        decoding=arguments.decoding,
        max_new_tokens=arguments.max_new_tokens,
        batch_size=arguments.generation_batch_size,
        adapter=not arguments.untuned,
        device=arguments.device,
        ledger=arguments.ledger,
        start_from=arguments.start_from,
    )


def source_settings(arguments: argparse.Namespace) -> SourceSettings:
    """What to read, as the flags say."""
    from unmask.instruct.sources import SourceSettings

    names = {field.name for field in fields(SourceSettings)}
    return SourceSettings(**{name: getattr(arguments, name) for name in names})


def recipe_from(arguments: argparse.Namespace, of_system: Any) -> Recipe:
    """The preset, with the system's own constants, with the flags that were given over both."""
    preset = arguments.preset or ("tiny" if arguments.model == "tiny" else "paper")
    names = {field.name for field in fields(Recipe)} - {"preset", "quantization"}
    given = {name: getattr(arguments, name, None) for name in names}
    overrides = {**of_system, **{name: value for name, value in given.items() if value is not None}}
    recipe = load_recipe(preset, **overrides)
    if arguments.quantization is not None:
        chosen = None if arguments.quantization == "none" else arguments.quantization
        recipe = Recipe.from_dict({**recipe.to_dict(), "quantization": chosen})
    return recipe


def _show(scores: dict[str, dict[str, Any]], settings: InstructSettings, split: str) -> None:
    """A column for every decoding that was evaluated, so that they can be compared."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{settings.system.name} on {settings.model}, {split}")
    table.add_column("what")
    rows: dict[str, dict[str, str]] = {}
    for decoding, one in scores.items():
        table.add_column(f"{decoding} decoding", justify="right")
        for what, value in _figures(one):
            rows.setdefault(what, {})[decoding] = value
    for what, values in rows.items():
        table.add_row(what, *(values.get(decoding, "") for decoding in scores))
    Console().print(table)


def _figures(scores: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "f1" in scores:
        for name in ("f1", "precision", "recall"):
            yield f"as a labeler: {name}", f"{scores[name]:.4f}"
    for name, value in scores["own"].items():
        if isinstance(value, float) and name in ("f1", "precision", "recall", "accuracy", "score"):
            yield f"the system's own: {name}", f"{value:.4f}"
    for status in ("ok", "empty", "partial", "malformed"):
        yield f"answers {status}", str(scores["parse"][status])
    yield "queries", str(scores["num_queries"])
    yield "gold that the format cannot carry", str(scores["num_collisions"])


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--set takes NAME=VALUE, got {text!r}")
    return name, value


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
