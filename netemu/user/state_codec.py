"""Frozen dataclasses to JSON and octets, and back: the strict half of `netemu.user.state`.

A value becomes what its type annotation says, which must be one of

    int, bool, str, None          themselves
    bytes                         their length; the octets themselves go to a heap, in order
    an IP address, a MAC address  text
    Endpoint                      [address, port]
    an Enum                       its value
    Literal, X | None             as their parts
    tuple[X, ...], tuple[X, Y]    a list
    a dataclass                   a list of its fields, in their order

`decode` takes nothing else: a wrong type, a number of more than 63 bits, too many or too few items, text that is no address, octets
left over are all a `LocalError`, as is what a dataclass itself refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from types import NoneType, UnionType
from typing import Any, Final, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from netemu.errors import LocalError
from netemu.wire.address import Endpoint, MacAddress

__all__ = ["decode", "encode"]

Json: TypeAlias = bool | int | str | list["Json"] | None
_T = TypeVar("_T")

_NUMBERS: Final = 1 << 63
_ADDRESSES: Final = (IPv4Address, IPv6Address)


def encode(value: object, heap: bytearray) -> Json:
    """`value` as JSON; its octets are added to `heap`."""
    if isinstance(value, MacAddress | IPv4Address | IPv6Address):
        return str(value)
    if isinstance(value, bytes):
        heap += value
        return len(value)
    if isinstance(value, Enum):
        return encode(value.value, heap)
    if is_dataclass(value):
        return [encode(getattr(value, field.name), heap) for field in fields(value)]
    if isinstance(value, tuple):  # an Endpoint is one
        return [encode(item, heap) for item in value]
    if value is None or isinstance(value, int | str):
        return value
    raise TypeError(f"{type(value).__name__} is no part of a state")


def decode(kind: type[_T], text: str, octets: bytes) -> _T:
    """The value of type `kind` that `encode` turned into the JSON `text` and the heap `octets`; raises `LocalError`."""
    heap = _Heap(octets)
    try:
        value: _T = _decode(kind, json.loads(text, parse_float=_no_float, parse_constant=_no_float), heap)
    except (ValueError, RecursionError) as error:
        raise LocalError(f"the state is not what save_state() gave: {error}") from None
    if heap.left:
        raise LocalError(f"the state is not what save_state() gave: {heap.left} octets are nobody's")
    return value


class _Heap:
    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._octets) - self._at

    def take(self, count: int) -> bytes:
        if not 0 <= count <= self.left:
            raise ValueError(f"{count} octets are not there")
        self._at += count
        return self._octets[self._at - count : self._at]


def _no_float(text: str) -> Json:
    raise ValueError(f"{text} is no whole number")


def _decode(kind: Any, item: Any, heap: _Heap) -> Any:  # noqa: ANN401 - what `kind` says, which mypy cannot follow
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _union(parts, item, heap)
    if origin is Literal:
        return _one_of(parts, item)
    if origin is tuple:
        return _tuple(parts, item, heap)
    if isinstance(kind, type) and is_dataclass(kind):
        hints = _hints(kind)
        return kind(**dict(zip(hints, _items(hints.values(), item, heap), strict=True)))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(item)
    reader = _READERS.get(kind)
    if reader is None:
        raise TypeError(f"{kind} is no part of a state")
    return reader(item, heap)


def _union(parts: tuple[Any, ...], item: Any, heap: _Heap) -> Any:  # noqa: ANN401 - as above
    if set(parts) == set(_ADDRESSES):
        return _address(item, heap)
    if item is None and NoneType in parts:
        return None
    (rest,) = (part for part in parts if part is not NoneType)
    return _decode(rest, item, heap)


def _one_of(allowed: tuple[Any, ...], item: Any) -> Any:  # noqa: ANN401 - as above
    if not isinstance(item, str) or item not in allowed:
        raise ValueError(f"{item!r} is none of {', '.join(allowed)}")
    return item


def _tuple(parts: tuple[Any, ...], item: Any, heap: _Heap) -> Any:  # noqa: ANN401 - as above
    if len(parts) == 2 and parts[1] is Ellipsis:
        parts = (parts[0],) * (len(item) if isinstance(item, list) else 0)
    return tuple(_items(parts, item, heap))


def _items(kinds: Any, item: Any, heap: _Heap) -> list[Any]:  # noqa: ANN401 - as above
    if not isinstance(item, list):
        raise ValueError(f"{item!r} stands where a list is expected")
    return [_decode(kind, each, heap) for kind, each in zip(kinds, item, strict=True)]


@cache
def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _number(item: Json, heap: _Heap) -> int:
    del heap
    if type(item) is not int or not -_NUMBERS <= item < _NUMBERS:
        raise ValueError(f"{item!r} is no number of 63 bits")
    return item


def _boolean(item: Json, heap: _Heap) -> bool:
    del heap
    if not isinstance(item, bool):
        raise ValueError(f"{item!r} is neither true nor false")
    return item


def _text(item: Json, heap: _Heap) -> str:
    del heap
    if not isinstance(item, str):
        raise ValueError(f"{item!r} is no text")
    return item


def _octets(item: Json, heap: _Heap) -> bytes:
    return heap.take(_number(item, heap))


def _mac(item: Json, heap: _Heap) -> MacAddress:
    return MacAddress(_text(item, heap))


def _address(item: Json, heap: _Heap) -> IPv4Address | IPv6Address:
    text = _text(item, heap)
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def _endpoint(item: Json, heap: _Heap) -> Endpoint:
    if not isinstance(item, list) or len(item) != 2:
        raise ValueError(f"{item!r} is no address and port")
    port = _number(item[1], heap)
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"{port} is no port")
    return Endpoint(_address(item[0], heap), port)


_READERS: Final[dict[Any, Callable[[Json, _Heap], object]]] = {
    int: _number,
    bool: _boolean,
    str: _text,
    bytes: _octets,
    MacAddress: _mac,
    IPv4Address: _address,
    IPv6Address: _address,
    Endpoint: _endpoint,
}
