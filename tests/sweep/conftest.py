"""A small corpus in files, and sweeps of the embedded backbone that take a second."""

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console

from unmask.data.lookright import generate
from unmask.recipe import load_recipe
from unmask.results.ledger import Ledger
from unmask.sweep.execute import execute, load_corpus
from unmask.sweep.plan import SweepSettings

SIZES = {"train": 48, "valid": 12, "test": 12}


def write_conll(path: Path, sentences) -> None:
    rows = ("\n".join(f"{w} {t}" for w, t in zip(s.words, s.tags, strict=True)) for s in sentences)
    path.write_text("\n\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """Train, validation and test as files with a word and a tag per line."""
    folder = tmp_path_factory.mktemp("corpus")
    corpus = generate()
    splits = {"train": corpus.train, "valid": corpus.validation, "test": corpus.test}
    for name, sentences in splits.items():
        write_conll(folder / f"{name}.txt", sentences[: SIZES[name]])
    return folder


@pytest.fixture(scope="session")
def fewer_labels_dir(tmp_path_factory) -> Path:
    """Files of another task: other and fewer sentences, and only the first of the labels."""
    folder = tmp_path_factory.mktemp("fewer")
    corpus = generate(seed=7)
    splits = {"train": corpus.train, "valid": corpus.validation, "test": corpus.test}
    for name, sentences in splits.items():
        only = [
            replace(s, tags=tuple(t if t.endswith(corpus.labels[0]) else "O" for t in s.tags))
            for s in sentences[: SIZES[name] - 5]
        ]
        write_conll(folder / f"{name}.txt", only)
    return folder


@dataclass
class Done:
    """A finished sweep and what it said on the way."""

    ledger: Ledger
    said: str
    out: Path

    @property
    def by_name(self):
        """Results by "CODE/seedN"."""
        return {f"{r.run.config}/seed{r.run.seed}": r for r in self.ledger.results()}

    @property
    def tested(self) -> set[str]:
        return {name for name, result in self.by_name.items() if "test" in result.scores}


@pytest.fixture
def settings(data_dir, tmp_path):
    """`settings(configs=..., max_steps=3, ...)`: a sweep of tiny on the small corpus."""

    def make(max_steps: int = 3, learning_rate: float = 1e-2, **changes) -> SweepSettings:
        recipe = load_recipe("tiny", max_steps=max_steps, epochs=20, learning_rate=learning_rate)
        given = {
            "task": "small",
            "data_dir": data_dir,
            "recipe": recipe,
            "configs": ("0000", "0110"),
            "seeds": (120,),
            "out": tmp_path / "out",
            **changes,
        }
        return SweepSettings(**given)

    return make


@pytest.fixture
def sweep(settings):
    """`sweep(configs=...)`: runs it to its end in this process."""

    def run(**changes) -> Done:
        chosen = settings(**changes)
        console = Console(file=io.StringIO(), markup=False, soft_wrap=True)
        ledger = execute(chosen, load_corpus(chosen), console)
        return Done(ledger, console.file.getvalue(), chosen.out)  # pyright: ignore[reportAttributeAccessIssue]

    return run


SERVER = """
import json, os, signal, sys
import peft, seqeval.metrics, torch.utils.data, transformers.models.llama.modeling_llama
import unmask.results.plots, unmask.results.report_html, unmask.sweep.dry_run
from unmask.sweep import __main__ as sweep

for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Shells start what runs in the background with Ctrl-C ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        exec(order["first"])
        code = 0
        try:
            sweep.main(order["argv"])
        except SystemExit as ending:
            code = ending.code
        sys.stdout.flush()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class WarmPython:
    """Runs sweeps in processes of their own, which can be killed, without importing torch anew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_started = 0
        # One thread: no pool that a fork would lose.
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def start(self, argv: list[str], first: str = "") -> int:
        """Begin `python -m unmask.sweep ARGV`, after the statements of `first`; gives its pid."""
        self.num_started += 1
        order = {"argv": argv, "first": first, "log": str(self.log)}
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(order) + "\n")
        self.server.stdin.flush()
        return int(self._answer())

    def wait(self) -> int:
        """Exit code of what was started last; negative for a signal."""
        return int(self._answer())

    def run(self, argv: list[str], first: str = "") -> int:
        self.start(argv, first)
        return self.wait()

    @property
    def log(self) -> Path:
        """What the process that was started last wrote, stdout and stderr."""
        return self.folder / f"{self.num_started}.log"

    def _answer(self) -> str:
        assert self.server.stdout is not None
        return self.server.stdout.readline()


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory):
    """One `WarmPython` for all tests."""
    python = WarmPython(tmp_path_factory.mktemp("logs"))
    yield python
    assert python.server.stdin is not None
    python.server.stdin.close()
    python.server.wait(timeout=30)
    assert python.server.stdout is not None
    python.server.stdout.close()


@pytest.fixture
def small(data_dir, tmp_path):
    """Flags of a sweep that takes a second."""
    return [
        *("--task", "small", "--data-dir", str(data_dir), "--out", str(tmp_path / "out")),
        *("--configs", "0000,0110", "--seeds", "120", "--max-steps", "2"),
    ]


@pytest.fixture
def without_pages(monkeypatch):
    """Figures are most of the time of a small sweep."""
    monkeypatch.setattr("unmask.sweep.outputs.write_outputs", lambda ledger, folder: [])
