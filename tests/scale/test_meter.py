import io

from rich.console import Console

from unmask.scale.meter import Meter
from unmask.training.checkpoint import Progress


def shown(force_terminal, steps):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=force_terminal, width=120, highlight=False)
    with Meter(console, "encoder", seconds_between_lines=0) as meter:
        for step in steps:
            meter.show(Progress("r", steps=step, tokens=step * 100, train_loss=[2.5]), 40)
    return stream.getvalue()


def test_a_line_says_how_far_how_fast_and_how_long_still():
    lines = shown(False, [21, 22]).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("encoder: 21/40, loss 2.500, ")
    assert lines[1].endswith(" s left")
    assert "tokens a second" in lines[1]


def test_a_terminal_gets_a_bar():
    assert "22/40" in shown(True, [21, 22])
