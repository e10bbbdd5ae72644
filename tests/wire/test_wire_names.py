from __future__ import annotations

import pytest

from netemu import wire


@pytest.mark.parametrize("name", wire.__all__)
def test_every_public_name_is_there(name):
    value = getattr(wire, name)
    assert getattr(value, "__module__", wire.__name__).startswith("netemu.wire") or name == "Buffer"


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'netemu\.wire' has no attribute 'Sctp'"):
        _ = wire.Sctp


def test_the_table_has_each_public_name_once():
    assert sorted(wire._HOME) == sorted(wire.__all__)
