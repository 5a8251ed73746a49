"""`python -m fuzz.run [--inputs 200000] [--target NAME]`: atheris over every target.

Each target runs in a process of its own, because libFuzzer ends the process it runs in. A crash,
an input that takes over ten seconds, or one that takes over two gigabytes ends it with the input
kept in `build/fuzz/NAME/`. What came of it is written to `fuzz/result.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzz.targets import ALLOWED, SHARES, targets

SECONDS_PER_INPUT = 10
MEGABYTES = 2048
RESULT = Path(__file__).parent / "result.json"


def main() -> None:
    """Run the targets one after another; exit code 1 when one of them found something."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000, metavar="N")
    parser.add_argument("--target", choices=tuple(SHARES), help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_this_process:
        fuzz(arguments.target, arguments.inputs, arguments.seed)
    chosen = [arguments.target] if arguments.target else list(SHARES)
    found = {}
    for name in chosen:
        share = 1.0 if arguments.target else SHARES[name]
        found[name] = _in_own_process(name, round(arguments.inputs * share), arguments.seed)
        print(f"{name:<14} {found[name]}", flush=True)
    total = sum(one["inputs"] for one in found.values())
    crashes = sum(one["exit_code"] != 0 for one in found.values())
    print(f"{total} inputs, {crashes} targets with a crash, a hang or too much memory")
    if not arguments.target:
        result = {"date": time.strftime("%Y-%m-%d"), "inputs": total, "targets": found}
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
    raise SystemExit(int(crashes > 0))


def _in_own_process(name: str, inputs: int, seed: int) -> dict[str, float | int]:
    command = [sys.executable, "-m", "fuzz.run", "--in-this-process", "--target", name]
    started = time.monotonic()
    done = subprocess.run(
        [*command, "--inputs", str(inputs), "--seed", str(seed)], capture_output=True, text=True
    )
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-6000:])
    ran = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    return {
        "inputs": int(ran[-1]) if ran else 0,
        "seconds": round(time.monotonic() - started, 1),
        "edges_covered": int(covered[-1]) if covered else 0,
        "exit_code": done.returncode,
    }


def fuzz(name: str, inputs: int, seed: int) -> None:
    """Fuzz one target; does not return."""
    import atheris

    with atheris.instrument_imports(include=["unmask"]):
        # Imported here so that the coverage of our own code leads the fuzzer.
        import unmask.config_file
        import unmask.data.readers
        import unmask.results.counts
        import unmask.results.ledger
        import unmask.results.record
        import unmask.saved_folder
        import unmask.sweep.__main__
        import unmask.training.checkpoint  # noqa: F401
    target = targets()[name]
    kept = Path("build/fuzz") / name
    kept.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    seeds = Path(tempfile.mkdtemp())
    for index, data in enumerate(target.seeds):
        (seeds / str(index)).write_bytes(data)
    # What argparse says of a broken input is not what we are here for.
    argparse_says, sys.stderr = sys.stderr, open(os.devnull, "w")  # noqa: SIM115

    def one_input(data: bytes) -> None:
        try:
            target.run(data, Path(scratch.name))
        except ALLOWED:
            pass
        except BaseException:
            sys.stderr = argparse_says
            raise

    flags = [f"-runs={inputs}", f"-seed={seed}", f"-timeout={SECONDS_PER_INPUT}"]
    flags += [f"-rss_limit_mb={MEGABYTES}", f"-artifact_prefix={kept}/", "-max_len=4096"]
    atheris.Setup(["fuzz", *flags, str(seeds)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
