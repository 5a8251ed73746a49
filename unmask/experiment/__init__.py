"""The folders of `experiments/`: commands to run, and claims that must hold of what came out.

A claim is a checked assertion with its numbers beside it, so that a conclusion in a README fails
loudly on the day it stops being true.
"""

from unmask.experiment.runner import main

__all__ = ["main"]
