"""The kernels compile, and are launched, for a GPU that is not there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

LONG = {"forward_kernel", "grad_query_kernel", "grad_key_kernel"}
SHORT = {"short_forward_kernel", "short_backward_kernel"}
LORA = {"linear_kernel", "outer_kernel"}
ROWS = {"norm_kernel", "norm_grad_kernel", "swiglu_kernel", "swiglu_grad_kernel", "sum_kernel"}


def run(script: str, *arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: in this one Triton interprets."""
    pytest.importorskip("triton", reason="Triton is not installed")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache)}
    environment.pop("TRITON_INTERPRET", None)
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--rotary",), ("--dtype", "float32")], ids=" ".join)
def test_kernels_of_a_step_compile_for_hopper_within_its_shared_memory(options, tmp_path):
    done = run("kernel_resources.py", *options, cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = done.stdout.splitlines()[1:]
    uses_matrix_units = {row.split()[0]: "MMA" in row for row in rows}
    float32 = "float32" in options
    products = LONG | LORA if float32 else LONG | LORA | SHORT
    turning = {"turn_kernel"} if "--rotary" in options else set()
    assert set(uses_matrix_units) == products | ROWS | turning
    wanted = set() if float32 else products
    assert {name for name, uses in uses_matrix_units.items() if uses} == wanted
    if not float32:
        assert all("HGMMA" in row for row in rows if row.split()[0] in LONG)


@pytest.mark.slow
def test_a_call_of_attention_is_launched_through_triton_without_a_gpu(tmp_path):
    output = tmp_path / "launches.json"
    options = ("--models", "smollm2-135m", "--rounds", "1", "--output", str(output))
    done = run("launches.py", *options, cache=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(output.read_text())["rows"]
    launches = [[row[mode]["launches"] for mode in ("forward", "backward", "both")] for row in rows]
    assert launches == [[1, 1, 2], [1, 1, 2], [3, 5, 8]]
