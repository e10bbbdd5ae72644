"""Sequence numbers (RFC 9293 3.4): modulo 2^32 on the wire, whole numbers that never wrap inside the engine.

A number from the wire is unwrapped once, on arrival, to the whole number nearest to one already known; it is wrapped
once, on departure. In between, order is `<` and distance is `-`: the pitfalls of modular comparison stay here.
A window is at most 2^30 octets (RFC 7323 2.3), so the nearest candidate is the right one.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MODULUS", "difference", "unwrap", "wrap"]

MODULUS: Final = 1 << 32
_HALF: Final = MODULUS >> 1
_MASK: Final = MODULUS - 1


def wrap(number: int) -> int:
    """The 32 bits that travel."""
    return number & _MASK


def difference(first: int, second: int) -> int:
    """`first - second` of two 32-bit numbers, the nearer way round: -2^31 .. 2^31 - 1."""
    return ((first - second + _HALF) & _MASK) - _HALF


def unwrap(bits: int, near: int) -> int:
    """The whole number that is `bits` modulo 2^32 and nearest to `near`; may be negative close to the start."""
    return near + difference(bits, near)
