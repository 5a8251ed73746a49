"""The pages and figures that a sweep leaves behind; `unmask report` makes them again.

Scores come from the ledger. What only the corpus knows (its notes, and the ceiling of the
generated one) is kept in `corpora.json` beside it, so that both ways give the same page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmask.data.sentence import Corpus
from unmask.results.ledger import Ledger

if TYPE_CHECKING:
    from unmask.results.groups import Group

CORPORA_FILE = "corpora.json"
TITLE = "Which layers should look right"


def remember_corpus(corpus: Corpus, folder: Path) -> None:
    """Keep for the report what results do not tell of their corpus."""
    known = _remembered(folder)
    known[_key(corpus.name, corpus.fingerprint())] = {
        "task": corpus.name,
        "notes": list(corpus.notes),
        "causal_ceiling": causal_ceiling_of(corpus),
    }
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{CORPORA_FILE}.partial"
    beside.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    beside.replace(folder / CORPORA_FILE)


def write_outputs(ledger: Ledger, folder: Path) -> list[Path]:
    """Write report.html, report.md and the figures; returns what was written.

    Raises:
        ValueError: when `corpora.json` in the folder is damaged.
    """
    from unmask.results.groups import group_results
    from unmask.results.report import render_markdown, render_report

    contents = ledger.read()
    used = {_key(one.run.task, one.run.data_fingerprint) for one in contents.results}
    corpora = [one for key, one in _remembered(folder).items() if key in used]
    notes = [note for corpus in corpora for note in corpus["notes"]]
    ceilings = {one["task"]: one["causal_ceiling"] for one in corpora if one["causal_ceiling"]}
    html, markdown = folder / "report.html", folder / "report.md"
    html.write_text(
        render_report(contents.results, TITLE, notes, contents.warnings, ceilings or None),
        encoding="utf-8",
    )
    markdown.write_text(render_markdown(contents.results, TITLE), encoding="utf-8")
    groups = [group for group in group_results(contents.results) if group.results]
    figures = [
        _write_figure(group, folder / name, ceilings.get(group.task))
        for name, group in zip(_figure_names(len(groups)), groups, strict=True)
    ]
    return [html, markdown, *figures]


def causal_ceiling_of(corpus: Corpus) -> float | None:
    """The best validation F1 that any causal labeler can reach, where that is known."""
    if corpus.name != "lookright":
        return None
    from unmask.data.lookright import causal_ceiling

    return causal_ceiling(corpus.validation)


def _key(task: str, fingerprint: str) -> str:
    return f"{task}/{fingerprint}"


def _figure_names(count: int) -> list[str]:
    return ["figure.png"] if count == 1 else [f"figure-{number + 1}.png" for number in range(count)]


def _write_figure(group: Group, path: Path, ceiling: float | None) -> Path:
    from unmask.results.plots import configuration_figure, save_png

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
