"""The kernels compile for a GPU that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernel_resources.py"


LONG = {"forward_kernel", "grad_query_kernel", "grad_key_kernel"}
SHORT = {"short_forward_kernel", "short_backward_kernel"}
LORA = {"linear_kernel", "outer_kernel"}
ROWS = {"norm_kernel", "norm_grad_kernel", "swiglu_kernel", "swiglu_grad_kernel", "sum_kernel"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--rotary",), ("--dtype", "float32")], ids=" ".join)
def test_kernels_of_a_step_compile_for_hopper_within_its_shared_memory(options, tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    # A process of its own: in this one Triton interprets.
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
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
