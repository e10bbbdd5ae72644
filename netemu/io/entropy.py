"""Random numbers, for engines that are given `getrandbits`: a number of bits to a number of that many bits.

`seeded_entropy` makes a run repeat; `system_entropy` is for networks that outsiders can reach, whose sequence numbers, ports and
query identifiers must not be guessed (RFC 6056, RFC 9293 3.4.1).
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["seeded_entropy", "system_entropy"]


def system_entropy() -> Callable[[int], int]:
    """The operating system's generator."""
    return random.SystemRandom().getrandbits


def seeded_entropy(seed: int) -> Callable[[int], int]:
    """A generator that gives the same numbers for the same seed, in every version of Python."""
    return random.Random(seed).getrandbits
