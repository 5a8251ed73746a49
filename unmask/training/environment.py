"""What a result was made with: versions, hardware, the commit."""

from __future__ import annotations

import importlib.metadata
import platform
import resource
import subprocess
from pathlib import Path

import torch

from unmask.backbones import LoadedBackbone
from unmask.ranks import Ranks

PACKAGES = ("unmask", "torch", "transformers", "peft", "bitsandbytes", "lightning", "seqeval")


def describe_environment(loaded: LoadedBackbone) -> dict[str, str]:
    """Names and values for `RunResult.environment`."""
    device = loaded.model.device
    on_gpu, size = device.type == "cuda", Ranks.here().size
    return {
        **{package: importlib.metadata.version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if on_gpu else processor(),
        "threads": str(torch.get_num_threads()),
        "git_commit": _git_commit(),
        "num_layers": str(loaded.model.config.num_hidden_layers),
        "weights": loaded.weights.name,
        "weights_revision": loaded.weights.revision or "local",
        "weights_digest": loaded.digest(),
        **({"processes of each run": str(size)} if size > 1 else {}),
    }


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that was in use so far: on the GPU, or by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def processor() -> str:
    """What the CPU calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git_commit() -> str:
    """The commit of the checkout that this package runs from, with + for uncommitted changes."""
    folder = Path(__file__).parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Installed into an environment inside somebody's repository, we are not part of that.
    if git("ls-files", "--error-unmatch", "__init__.py") is None:
        return "not a checkout"
    commit = git("rev-parse", "--short=12", "HEAD")
    return f"{commit}{'+' if git('status', '--porcelain', '--', '.') else ''}"
