"""Where the Triton kernels can run: interpreted on the CPU, or compiled on a CUDA device."""

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def triton_device(request) -> str:
    """A device on which the Triton kernels run here; skips, with the reason, where none does."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from unmask.kernels.interpreter import INTERPRETED

    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if request.param == "cpu" and not INTERPRETED:
        pytest.skip("Triton compiles its kernels here: the same test runs on the CUDA device")
    return request.param
