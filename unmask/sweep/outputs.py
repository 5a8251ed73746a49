"""The pages, tables and figures that a sweep leaves behind; `unmask report` makes them again.

Scores come from the ledger. What only the sweep knows (what it was asked for, the notes of the
corpus, its sentences, the ceiling of the generated one) is kept beside it, in `corpora.json` and
`sentences/`, so that both ways give the same page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.analysis.breakdown import gold_sentences
from unmask.data.sentence import SPLITS, Corpus
from unmask.results.about import About
from unmask.results.files import write_in_one_move
from unmask.results.kept import Kept, has_sentences, keep_sentences
from unmask.results.ledger import Ledger
from unmask.results.tables import plain

if TYPE_CHECKING:
    from unmask.results.findings import Findings
    from unmask.results.groups import Group
    from unmask.results.run import RunResult
    from unmask.sweep.plan import SweepSettings

CORPORA_FILE = "corpora.json"
_SHOWN_ELSEWHERE = ("recipe", "search", "out")
TITLE = "Which layers should look right"


def remember_corpus(corpus: Corpus, settings: SweepSettings) -> None:
    """Keep for the report what results do not tell of their corpus and of the sweep."""
    folder, fingerprint = settings.out, corpus.fingerprint()
    known = _remembered(folder)
    known[_key(corpus.name, fingerprint)] = {
        "task": corpus.name,
        "notes": list(corpus.notes),
        "causal_ceiling": causal_ceiling_of(corpus),
        "settings": _settings(corpus, settings),
    }
    write_in_one_move(folder / CORPORA_FILE, json.dumps(known, indent=2) + "\n")
    for split in ("validation", "test"):
        if not has_sentences(folder, fingerprint, split):
            sentences = gold_sentences(corpus.split(split), corpus.train)
            keep_sentences(folder, fingerprint, split, sentences)


def write_outputs(
    ledger: Ledger, folder: Path, only: str | None = None, with_sentences: bool = True
) -> list[Path]:
    """Write the pages, the tables and the figures; returns what was written.

    Args:
        ledger: of the sweep.
        folder: the --out folder of the sweep.
        only: report the sections whose title has this in it, in a folder of their own.
        with_sentences: show the worst sentences, which are text of the corpus.

    Raises:
        ValueError: when no title has `only` in it, or when `corpora.json` or something else that
            was kept is damaged.
    """
    from unmask.results.report import find_in, render_markdown, render_report
    from unmask.results.report_parts import MAX_DRAWN_SECTIONS
    from unmask.results.table_files import configurations_csv, latex, runs_csv

    contents, kept, about = ledger.read(), Kept(folder), _about(folder)
    groups, left_out = _shown(contents.results, folder, only)
    if only is not None:
        folder = folder / f"only-{_in_file_names(only)}"
    sections = find_in(groups, kept)
    shown = {one.run.id for group in groups for one in group.every_result}
    results = [one for one in contents.results if one.run.id in shown]
    texts = {
        "report.html": render_report(
            sections, TITLE, [*contents.warnings, *left_out], about, with_sentences
        ),
        "report.md": render_markdown(sections, TITLE),
        "report.tex": latex(sections),
        "configurations.csv": configurations_csv(sections),
        "runs.csv": runs_csv(results),
    }
    for name, text in texts.items():
        write_in_one_move(folder / name, text)
    drawn = [group for group in groups if group.results and len(groups) <= MAX_DRAWN_SECTIONS]
    figures = [
        _write_figure(group, folder / name, about.get((group.task, group.data_fingerprint)))
        for name, group in zip(_figure_names(len(drawn)), drawn, strict=True)
    ]
    return [*(folder / name for name in texts), *figures]


def sections_for_terminal(ledger: Ledger, folder: Path, only: str | None = None) -> list[Findings]:
    """The sections that `write_outputs` writes, as far as a table of scores needs them."""
    from unmask.results.report import find_in

    groups, _ = _shown(ledger.results(), folder, only)
    return find_in(groups)


def groups_in(folder: Path, results: Iterable[RunResult]) -> list[Group]:
    """Groups of results, with titles that know the corpora of the folder."""
    from unmask.results.groups import group_results

    return group_results(results, _sizes(folder))


def _shown(
    results: Sequence[RunResult], folder: Path, only: str | None
) -> tuple[list[Group], list[str]]:
    """Groups to report, and notes of what was left out."""
    from unmask.results.recipes import worth_showing

    if only is not None:
        return _named(groups_in(folder, results), only), []
    worth, left_out = worth_showing(results)
    return groups_in(folder, worth), left_out


def _sizes(folder: Path) -> dict[tuple[str, str], dict[str, int]]:
    """Sentences by split of every corpus that was kept, by task and fingerprint."""
    return {
        key: {
            "training" if split == "train" else split: int(number)
            for split in SPLITS
            if (number := about.settings.get(f"{split} sentences", "")).isdecimal()
        }
        for key, about in _about(folder).items()
    }


def _named(groups: Sequence[Group], only: str) -> list[Group]:
    found = [group for group in groups if only in group.title]
    if not found:
        titles = ", ".join(repr(group.title) for group in groups[:20]) or "no results"
        raise ValueError(f"no title has {only!r} in it; there are {titles}")
    return found


def _in_file_names(text: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in text)


def _about(folder: Path) -> dict[tuple[str, str], About]:
    """What was kept of every corpus, by task and fingerprint."""
    found = {}
    for key, one in _remembered(folder).items():
        about = About(
            notes=tuple(one["notes"]),
            ceiling=one["causal_ceiling"],
            settings=one.get("settings", {}),
        )
        found[one["task"], key.rpartition("/")[2]] = about
    return found


def causal_ceiling_of(corpus: Corpus) -> float | None:
    """The best validation F1 that any causal labeler can reach, where that is known."""
    if corpus.name != "lookright":
        return None
    from unmask.data.lookright import causal_ceiling

    return causal_ceiling(corpus.validation)


def _settings(corpus: Corpus, settings: SweepSettings) -> dict[str, str]:
    """The corpus as it was read and every setting, in words; the recipe has its own table."""
    searched = vars(settings.search) if settings.search else {}
    asked = {
        **{f"{split} sentences": len(corpus.split(split)) for split in SPLITS},
        "labels": corpus.labels,
        "licence of the data": corpus.licence,
        **vars(settings),
        **{f"search: {name}": value for name, value in searched.items()},
    }
    shown = {name: plain(value) for name, value in asked.items() if name not in _SHOWN_ELSEWHERE}
    return {name.replace("_", " "): value for name, value in shown.items()}


def _key(task: str, fingerprint: str) -> str:
    return f"{task}/{fingerprint}"


def _figure_names(count: int) -> list[str]:
    return ["figure.png"] if count == 1 else [f"figure-{number + 1}.png" for number in range(count)]


def _write_figure(group: Group, path: Path, about: About | None) -> Path:
    from unmask.results.figures import save_png
    from unmask.results.plots import configuration_figure

    ceiling = about.ceiling if about else None
    save_png(configuration_figure(group.results, group.baselines, ceiling), path)
    return path


def _remembered(folder: Path) -> dict[str, Any]:
    path = folder / CORPORA_FILE
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it") from None
