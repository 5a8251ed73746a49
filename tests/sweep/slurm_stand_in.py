"""The commands of SLURM as far as submitit calls them, for one machine and jobs that start at once.

SLURM needs a daemon and root; what submitit makes of a sweep can be tried without. A job is a
process of its own whose state stands in a file below $SLURM_STAND_IN, from where `sacct` reads it.
`scontrol requeue` starts a job again when it has ended, as SLURM does after a time limit. The
partition `none` does not exist, and jobs in `doomed` are killed by their node.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ.get("SLURM_STAND_IN", "jobs"))
NAMES = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def install(place: str) -> None:
    """Put the commands into a folder, to be on PATH."""
    folder = Path(place)
    folder.mkdir(parents=True)
    for name in NAMES:
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        path.chmod(0o755)


def sbatch(script: str) -> None:
    text = Path(script).read_text()
    if "--partition=none" in text:
        sys.stderr.write("sbatch: error: invalid partition specified: none\n")
        sys.exit("sbatch: error: Batch job submission failed: Invalid partition name specified")
    STATE.mkdir(exist_ok=True)
    job = str(1000 + len(list(STATE.iterdir())))
    array = re.search(r"--array=0-(\d+)", text)
    for task in range(int(array[1]) + 1) if array else [None]:
        name = job if task is None else f"{job}_{task}"
        (STATE / name).write_text("PENDING")
        more = {} if task is None else {"ARRAY_JOB_ID": job, "ARRAY_TASK_ID": str(task)}
        given = {"JOB_ID": job, "JOB_NAME": "unmask", "JOB_NUM_NODES": "1", "NTASKS": "1", **more}
        given |= {"PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NODELIST": "localhost"}
        subprocess.Popen(
            [sys.executable, __file__, "supervise", name, script],
            env={**os.environ, **{f"SLURM_{key}": value for key, value in given.items()}},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    sys.stdout.write(f"Submitted batch job {job}\n")


def supervise(name: str, script: str) -> None:
    state = STATE / name
    while True:
        state.write_text("RUNNING")
        process = subprocess.Popen(["bash", script], start_new_session=True)
        if "--partition=doomed" in Path(script).read_text():
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            state.write_text("NODE_FAIL")
            return
        code = process.wait()
        if state.read_text() != "REQUEUED":
            break
    if state.read_text() == "RUNNING":
        state.write_text("COMPLETED" if code == 0 else "FAILED")


def srun(*arguments: str) -> None:
    given = list(arguments)
    given.remove("--unbuffered")
    for flag, stream in (("--output", 1), ("--error", 2)):
        at = given.index(flag)
        path = given[at + 1].replace("%t", "0")
        for sign, name in (("%j", "JOB_ID"), ("%A", "ARRAY_JOB_ID"), ("%a", "ARRAY_TASK_ID")):
            path = path.replace(sign, os.environ.get(f"SLURM_{name}", ""))
        del given[at : at + 2]
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.execv(given[0], given)


def sacct(*arguments: str) -> None:
    jobs = [arguments[at + 1] for at, flag in enumerate(arguments) if flag == "-j"]
    sys.stdout.write("JobID|State|NodeList\n")
    for path in sorted(STATE.iterdir()):
        if path.name.partition("_")[0] in jobs:
            sys.stdout.write(f"{path.name}|{path.read_text()}|localhost\n")


def scancel(*arguments: str) -> None:
    for path in STATE.iterdir():
        if path.name.partition("_")[0] in arguments or path.name in arguments:
            path.write_text("CANCELLED")


def scontrol(verb: str, job: str) -> None:
    assert verb == "requeue", verb
    (STATE / job).write_text("REQUEUED")


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    functions = (install, sbatch, supervise, srun, sacct, scancel, scontrol)
    {one.__name__: one for one in functions}[command](*rest)
