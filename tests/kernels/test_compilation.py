"""The kernels compile for a GPU that is not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernel_resources.py"


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--rotary",), ("--dtype", "float32")], ids=" ".join)
def test_attention_kernels_compile_for_hopper_within_its_shared_memory(options, tmp_path):
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
    assert {row.split()[0] for row in rows} == {
        "forward_kernel",
        "grad_query_kernel",
        "grad_key_kernel",
    }
    uses_matrix_units = all("MMA" in row for row in rows)
    assert uses_matrix_units == ("float32" not in options)
