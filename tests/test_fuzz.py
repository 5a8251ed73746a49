"""The fuzzer begins with inputs that are read, so that what it breaks was whole."""

import pytest

from fuzz.targets import ALLOWED, SHARES, targets

ALL = targets()


def test_every_target_has_its_share_and_the_shares_are_all():
    assert set(ALL) == set(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "seed"),
    [(name, index) for name, one in ALL.items() for index in range(len(one.seeds))],
)
def test_what_the_fuzzer_begins_with_is_read_without_an_error(name, seed, tmp_path):
    ALL[name].run(ALL[name].seeds[seed], tmp_path)


@pytest.mark.parametrize("name", sorted(ALL))
def test_half_of_it_is_read_or_refused(name, tmp_path):
    for data in ALL[name].seeds:
        for end in (0, 1, len(data) // 2, len(data) - 1):
            said = "read"
            try:
                ALL[name].run(data[:end], tmp_path)
            except ALLOWED as error:
                said = str(error)
            assert said
