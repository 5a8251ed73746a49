"""What must be settled before any test imports Triton.

Where there is no CUDA device its kernels run in Triton's interpreter, which must be asked for
before Triton is imported; where Triton is missing its modules cannot be collected for doctests.
"""

import importlib.util
import os

import torch

TRITON_MODULES = [
    "attention_tiles",
    "attention_pack",
    "attention_halves",
    "attention_short",
    "attention_short_backward",
    "attention_forward",
    "attention_backward",
    "interpreter",
    "launching",
    "lora_triton",
    "nf4_triton",
    "rows_triton",
    "slots",
]

collect_ignore = []
if importlib.util.find_spec("triton") is None:
    collect_ignore += [f"unmask/kernels/{name}.py" for name in TRITON_MODULES]
elif not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
