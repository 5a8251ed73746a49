from types import SimpleNamespace
from typing import Any

import pytest

import benchmarks.instruct as benchmark


def test_growth_is_the_power_of_the_length_that_time_follows():
    seconds = {length: 3e-12 * length**2 for length in benchmark.LENGTHS}
    assert benchmark.growth(seconds) == pytest.approx(2)
    assert benchmark.growth({length: 1e-7 * length for length in seconds}) == pytest.approx(1)
    assert benchmark.growth(dict.fromkeys(seconds, benchmark.SHORTEST_SECONDS / 2)) == 0


def test_a_parser_that_begins_again_at_every_place_is_told_from_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(benchmark, "HARD", ("{",))
    monkeypatch.setattr(benchmark, "REPETITIONS", 3)

    def parser(parse: Any) -> Any:
        return SimpleNamespace(name="p", query=None, system=SimpleNamespace(parse=parse))

    again = parser(lambda answer, _: [answer[place:] for place in range(0, len(answer), 200)])
    onward = parser(lambda answer, _: [ord(letter) for letter in answer])
    assert benchmark.grow(again)["growth"] > benchmark.MOST > benchmark.grow(onward)["growth"]
