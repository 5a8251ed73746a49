"""How long does a newcomer wait for the first labelled span? Seconds from a fresh clone, by step.

Downloads do not count: everything is fetched into a folder of wheels first, and the steps that are
timed see no package index. They are those of the README and the quickstart: clone, `make`'s
set-up, `unmask train` on the embedded backbone and corpus, `unmask predict`.

    python benchmarks/first_span.py
    python benchmarks/first_span.py --wheels ~/wheels     # kept, and not fetched again
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "first_span.json"
TEXT = "yesterday Velmora was flooded again"
SECONDS = 180


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repository", default=str(CHECKOUT), help="default: this checkout")
    parser.add_argument("--wheels", type=Path, help="folder for downloads (default: a passing one)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wheels = arguments.wheels or Path(scratch) / "wheels"
        if not wheels.exists():
            fetch(wheels)
        report = measure(arguments.repository, Path(scratch) / "clone", wheels.resolve())
    print(json.dumps(report, indent=1))
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if report["seconds"]["together"] > SECONDS:
        sys.exit(f"first_span.py: more than {SECONDS} s")


def fetch(wheels: Path) -> None:
    """Everything of the lock as wheels, and what builds this package."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels)]
    subprocess.run([*pip, "--requirement", str(CHECKOUT / "requirements.lock")], check=True)
    subprocess.run([*pip, "setuptools>=77", "wheel"], check=True)


def measure(repository: str, clone: Path, wheels: Path) -> dict[str, Any]:
    """Seconds of each step, and the span.

    Raises:
        RuntimeError: when no span comes of it.
    """
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CONFIG_FILE": os.devnull,
        "HF_HUB_OFFLINE": "1",
    }
    # What runs this file must not be what the clone imports.
    environment = {**os.environ, **offline}
    environment.pop("PYTHONPATH", None)
    load_before = os.getloadavg()
    seconds: dict[str, float] = {}
    python = f"PYTHON={sys.executable}"
    run = Clock(environment, seconds)
    run("clone", ["git", "clone", "--quiet", repository, str(clone)], clone.parent)
    run("install", ["make", "--silent", ".venv/.installed", python], clone)
    said = run("train", [".venv/bin/unmask", "train", "--unmask", "0110"], clone)
    folder = said.split()[-1]
    said = run("predict", [".venv/bin/unmask", "predict", folder, "-"], clone, f"{TEXT}\n")
    spans = json.loads(said)["spans"]
    if not spans:
        raise RuntimeError(f"no span in {TEXT!r}")
    seconds["together"] = round(sum(seconds.values()), 1)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": {"before": load_before, "after": os.getloadavg()},
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as cores"),
        "seconds": seconds,
        "span": spans[0],
    }


class Clock:
    """Runs commands and keeps their seconds."""

    def __init__(self, environment: Mapping[str, str], seconds: dict[str, float]) -> None:
        self.environment, self.seconds = environment, seconds

    def __call__(self, step: str, command: list[str], folder: Path, given: str = "") -> str:
        """Standard output of a command; what it says about errors goes to the terminal."""
        started = time.monotonic()
        done = subprocess.run(
            command,
            cwd=folder,
            env=self.environment,
            input=given,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        self.seconds[step] = round(time.monotonic() - started, 1)
        return done.stdout


if __name__ == "__main__":
    main()
