from __future__ import annotations

from netemu.io.entropy import seeded_entropy, system_entropy


def test_a_seed_repeats():
    first, again, other = seeded_entropy(7), seeded_entropy(7), seeded_entropy(8)
    numbers = [first(32) for _ in range(8)]
    assert numbers == [again(32) for _ in range(8)]
    assert numbers != [other(32) for _ in range(8)]
    assert seeded_entropy(1)(32) == 577090037  # the same on every machine


def test_the_system_does_not_repeat():
    numbers = {system_entropy()(64) for _ in range(8)}
    assert len(numbers) == 8
    assert all(0 <= number < 1 << 64 for number in numbers)
