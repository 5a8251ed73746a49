"""What a user waits for before anything happens. Other programs may run, so the best counts."""

import subprocess
import sys
import time

import pytest

import unmask

ATTEMPTS = 3


def best_seconds(*arguments: str) -> float:
    times = []
    for _ in range(ATTEMPTS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True, timeout=60)
        times.append(time.perf_counter() - started)
    return min(times)


def test_import_takes_under_three_tenths_of_a_second():
    idle = best_seconds("-c", "pass")
    assert best_seconds("-c", "import unmask") - idle < 0.3


@pytest.mark.parametrize(
    "command",
    [("-m", "unmask.cli", "--help"), ("-m", "unmask.sweep", "--help")],
    ids=["unmask", "sweep"],
)
def test_help_takes_under_a_second(command):
    assert best_seconds(*command) < 1.0


@pytest.mark.parametrize(
    "statement",
    [
        "import unmask",
        "import unmask.cli",
        "import unmask.sweep.__main__",
        "import unmask.results.report",
        "import unmask.analysis.scoring",
        "import unmask.data.tags",
    ],
)
def test_what_must_start_fast_imports_nothing_heavy(statement):
    heavy = "{'torch', 'transformers', 'lightning', 'peft', 'spacy', 'datasets', 'matplotlib'}"
    code = f"import sys; {statement}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""


def test_public_names_are_there_when_they_are_asked_for():
    assert unmask.UnmaskConfig.from_code("01", 2).code == "01"
    for name in unmask.__all__:
        assert getattr(unmask, name).__name__ == name
        assert name in dir(unmask)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'unmask' has no attribute 'Labeler'"):
        _ = unmask.Labeler
