"""UnmaskConfig: which decoder layers look right.

Codes read from the input side: the leftmost bit is the group of layers next to the input, and
1 means unmasked (bidirectional). The one thing that is easy to get wrong is the order: "0001"
opens the layers next to the *output*.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class UnmaskConfig:
    """One flag per decoder layer, input side first; True means the layer looks right.

    >>> UnmaskConfig.from_code("0110", num_layers=8).bidirectional
    (False, False, True, True, True, True, False, False)
    """

    bidirectional: tuple[bool, ...]
    num_groups: int | None = None
    """How many groups the code was given in; None for per-layer codes and layer sets."""

    def __post_init__(self) -> None:
        flags = tuple(self.bidirectional)
        if not flags:
            raise ValueError("an unmasking configuration needs at least one layer")
        for layer, flag in enumerate(flags):
            if flag not in (False, True):
                raise ValueError(f"layer {layer}: {flag!r} is no flag; give True or False")
        # 0 and 1 are taken too, but saved as what they mean.
        object.__setattr__(self, "bidirectional", tuple(map(bool, flags)))
        if self.num_groups is not None and self.bidirectional != _flags(self.code, self.num_layers):
            raise ValueError(
                f"the flags {self.bidirectional} are not those of {self.num_groups} groups; leave "
                "num_groups out for a set of layers"
            )

    @classmethod
    def from_code(cls, code: str, num_layers: int) -> UnmaskConfig:
        """Read a code of m bits as m consecutive groups of layers.

        Groups differ by at most one layer, larger groups first: 30 layers in 4 groups are
        8, 8, 7, 7. A code of `num_layers` bits has one bit per layer.

        Raises:
            ValueError: for characters other than 0 and 1, an empty code, or more bits than layers.
        """
        if not isinstance(code, str) or not code or set(code) - {"0", "1"}:
            raise ValueError(
                f"unmasking code {code!r} is not a string of 0s and 1s; write one bit per group of "
                'layers, input side first, such as "0110"'
            )
        return cls(_flags(code, num_layers), num_groups=len(code))

    @classmethod
    def from_layers(cls, layers: Iterable[int], num_layers: int) -> UnmaskConfig:
        """Open exactly the given layers, counted from 0 at the input.

        Raises:
            ValueError: for an index outside 0 .. num_layers - 1 or one given twice.
        """
        chosen = list(layers)
        for layer in chosen:
            if not isinstance(layer, int) or isinstance(layer, bool):
                raise ValueError(f"layer {layer!r} is not a whole number; count layers from 0")
            if not 0 <= layer < num_layers:
                raise ValueError(
                    f"layer {layer} does not exist; this model has layers 0 to {num_layers - 1}"
                )
        if len(set(chosen)) != len(chosen):
            raise ValueError(f"layers {chosen} name a layer twice")
        return cls(tuple(layer in set(chosen) for layer in range(num_layers)))

    @classmethod
    def parse(cls, text: str, num_layers: int) -> UnmaskConfig:
        """A code ("0110") or a layer set ("layers:0,1,5-7"), as the command line writes them.

        >>> UnmaskConfig.parse("layers:0,2-3", num_layers=4).code
        '1011'
        """
        prefix = "layers:"
        if not text.startswith(prefix):
            return cls.from_code(text, num_layers)
        layers: list[int] = []
        for part in text[len(prefix) :].split(","):
            first, dash, last = part.strip().partition("-")
            readable = first.isdecimal() and (not dash or last.isdecimal())
            if not readable or int(last or first) < int(first):
                raise ValueError(
                    f'layer set {text!r} is not readable at {part!r}; write "layers:0,1,5-7"'
                )
            layers.extend(range(int(first), int(last or first) + 1))
        return cls.from_layers(layers, num_layers)

    @property
    def num_layers(self) -> int:
        """How many decoder layers this configuration is for."""
        return len(self.bidirectional)

    @property
    def code(self) -> str:
        """The group code it was made from, or one bit per layer."""
        if self.num_groups is None:
            return "".join("01"[flag] for flag in self.bidirectional)
        bits, layer = [], 0
        for size in group_sizes(self.num_groups, self.num_layers):
            bits.append("01"[self.bidirectional[layer]])
            layer += size
        return "".join(bits)

    @property
    def causal(self) -> tuple[bool, ...]:
        """The opposite of `bidirectional`: True where the causal mask stays."""
        return tuple(not flag for flag in self.bidirectional)


def group_sizes(num_groups: int, num_layers: int) -> tuple[int, ...]:
    """Layers per group, larger groups first.

    >>> group_sizes(4, 30)
    (8, 8, 7, 7)
    """
    if not 1 <= num_groups <= num_layers:
        raise ValueError(
            f"{num_groups} groups do not fit {num_layers} layers; use 1 to {num_layers} bits"
        )
    small, larger_groups = divmod(num_layers, num_groups)
    return tuple(small + (group < larger_groups) for group in range(num_groups))


def gray_codes(num_bits: int) -> tuple[str, ...]:
    """All codes of `num_bits` bits, each one flip away from its neighbour.

    >>> gray_codes(2)
    ('00', '01', '11', '10')
    """
    if num_bits < 1:
        raise ValueError(f"a Gray code needs at least 1 bit, got {num_bits}")
    return tuple(format(i ^ (i >> 1), f"0{num_bits}b") for i in range(2**num_bits))


def _flags(code: str, num_layers: int) -> tuple[bool, ...]:
    sizes = group_sizes(len(code), num_layers)
    return tuple(bit == "1" for bit, size in zip(code, sizes, strict=True) for _ in range(size))
