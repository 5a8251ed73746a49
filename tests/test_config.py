from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unmask.config import UnmaskConfig, gray_codes, group_sizes

codes = st.text("01", min_size=1, max_size=40)

PUBLISHED_ORDER = "0000 0001 0011 0010 0110 0111 0101 0100 1100 1101 1111 1110 1010 1011 1001 1000"


def test_the_leftmost_bit_is_the_group_next_to_the_input():
    flags = UnmaskConfig.from_code("1000", num_layers=32).bidirectional
    assert flags == (True,) * 8 + (False,) * 24


def test_thirty_layers_in_four_groups_are_8_8_7_7():
    assert group_sizes(4, 30) == (8, 8, 7, 7)
    flags = UnmaskConfig.from_code("0101", num_layers=30).bidirectional
    assert flags == (False,) * 8 + (True,) * 8 + (False,) * 7 + (True,) * 7


def test_flags_are_booleans_whatever_they_were_given_as():
    assert UnmaskConfig((0, 1)) == UnmaskConfig([False, True])  # pyright: ignore[reportArgumentType]
    assert UnmaskConfig((0, 1)).bidirectional[1] is True  # pyright: ignore[reportArgumentType]
    for flag in ("0", 2, None):
        with pytest.raises(ValueError, match=f"layer 1: {flag!r} is no flag; give True or False"):
            UnmaskConfig((True, flag))  # pyright: ignore[reportArgumentType]


@given(codes, st.integers(0, 50))
def test_a_code_of_any_number_of_groups_comes_back(code, extra_layers):
    config = UnmaskConfig.from_code(code, num_layers=len(code) + extra_layers)
    assert config.code == code
    assert config.num_layers == len(code) + extra_layers
    assert config.causal == tuple(not flag for flag in config.bidirectional)


@given(st.integers(1, 40), st.integers(0, 60))
def test_groups_cover_all_layers_and_differ_by_at_most_one_larger_first(num_groups, extra):
    sizes = group_sizes(num_groups, num_groups + extra)
    assert sum(sizes) == num_groups + extra
    assert sizes[0] - sizes[-1] <= 1
    assert list(sizes) == sorted(sizes, reverse=True)


@given(codes)
def test_a_code_with_one_bit_a_layer_opens_the_layers_that_it_marks(code):
    by_code = UnmaskConfig.from_code(code, num_layers=len(code))
    marked = [layer for layer, bit in enumerate(code) if bit == "1"]
    by_layers = UnmaskConfig.from_layers(marked, num_layers=len(code))
    assert by_code.bidirectional == by_layers.bidirectional
    assert by_layers.code == code


def test_layer_sets_need_not_be_in_order_or_contiguous():
    config = UnmaskConfig.from_layers([3, 0], num_layers=5)
    assert config.bidirectional == (True, False, False, True, False)
    assert config.code == "10010"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("0110", "0110"),
        ("layers:0,2-3", "1011"),
        ("layers: 1 , 3", "0101"),
        ("layers:0-3", "1111"),
        ("layers:2-2", "0010"),
    ],
)
def test_codes_and_layer_sets_as_the_command_line_writes_them(text, code):
    assert UnmaskConfig.parse(text, num_layers=4).code == code


def test_sixteen_codes_come_in_the_published_gray_order():
    assert " ".join(gray_codes(4)) == PUBLISHED_ORDER


@given(st.integers(1, 9))
def test_neighbours_in_gray_order_differ_in_one_bit_and_none_is_missing(num_bits):
    codes = gray_codes(num_bits)
    assert len(set(codes)) == 2**num_bits
    for before, after in pairwise(codes):
        assert sum(a != b for a, b in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("code", ["", "012", "01 10", "O110", 110, None])
def test_a_code_of_anything_but_bits_is_refused(code):
    with pytest.raises(ValueError, match=r"unmasking code .* is not a string of 0s and 1s; write"):
        UnmaskConfig.from_code(code, num_layers=8)


def test_more_groups_than_layers_are_refused():
    with pytest.raises(ValueError, match="5 groups do not fit 4 layers; use 1 to 4 bits"):
        UnmaskConfig.from_code("01010", num_layers=4)


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_does_not_exist_is_refused(layer):
    with pytest.raises(ValueError, match=f"layer {layer} does not exist; this model has layers 0 "):
        UnmaskConfig.from_layers([0, layer], num_layers=4)


@pytest.mark.parametrize("layer", ["1", 1.0, True])
def test_a_layer_that_is_no_whole_number_is_refused(layer):
    with pytest.raises(ValueError, match="is not a whole number; count layers from 0"):
        UnmaskConfig.from_layers([0, layer], num_layers=4)


def test_a_layer_named_twice_is_refused():
    with pytest.raises(ValueError, match=r"layers \[1, 2, 1\] name a layer twice"):
        UnmaskConfig.from_layers([1, 2, 1], num_layers=4)
    with pytest.raises(ValueError, match="name a layer twice"):
        UnmaskConfig.parse("layers:0-2,1", num_layers=4)


@pytest.mark.parametrize("text", ["layers:", "layers:a", "layers:1-", "layers:1,,2", "layers:3-1"])
def test_a_layer_set_that_cannot_be_read_is_refused(text):
    with pytest.raises(ValueError, match=r'is not readable at .*; write "layers:0,1,5-7"'):
        UnmaskConfig.parse(text, num_layers=8)


def test_no_layers_are_refused():
    with pytest.raises(ValueError, match="needs at least one layer"):
        UnmaskConfig(())


def test_flags_that_are_not_those_of_their_groups_are_refused():
    with pytest.raises(ValueError, match="are not those of 2 groups; leave num_groups out"):
        UnmaskConfig((True, False, False, False), num_groups=2)


def test_a_gray_code_without_bits_is_refused():
    with pytest.raises(ValueError, match="needs at least 1 bit, got 0"):
        gray_codes(0)
