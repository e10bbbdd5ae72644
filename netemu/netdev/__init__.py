"""QEMU's netdev types, one module each, and the option grammar.

`create` makes a netdev from the text of QEMU's `-netdev`; `TYPES` are those that exist. The legacy `-net` and the short `-nic` are
front-ends to the same types, and not read here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from netemu.errors import LocalError
from netemu.io.host import Host
from netemu.net.hub import Hub
from netemu.net.loop import Loop
from netemu.netdev.hubport import HubportNetdev
from netemu.netdev.options import parse_options
from netemu.netdev.protocol import Backend
from netemu.netdev.user import UserNetdev
from netemu.user.options import UserOptions

__all__ = ["TYPES", "NetdevRequest", "create"]


@dataclass(frozen=True, slots=True)
class NetdevRequest:
    """What a type's factory may need: the options, and the network's parts. `hub` gives the hub with a number."""

    id: str
    pairs: list[tuple[str, str]]
    host: Host
    getrandbits: Callable[[int], int]
    hub: Callable[[int], Hub] | None


def create(
    loop: Loop,
    text: str,
    *,
    id: str,  # noqa: A002 - QEMU's name
    host: Host,
    getrandbits: Callable[[int], int],
    hub: Callable[[int], Hub] | None = None,
) -> Backend:
    """The netdev that `text` describes, such as `user,hostfwd=tcp:127.0.0.1:0-:80`.

    An `id=` in the text counts more than the argument. Raises `LocalError` for what is not understood, and `HostError` where the
    host refuses (a forwarded port in use).
    """
    kind, pairs = parse_options(text)
    factory = TYPES.get(kind)
    if factory is None:
        raise LocalError(f"netdev type {kind!r} is not there: these are: {', '.join(sorted(TYPES))}")
    names = [value for key, value in pairs if key == "id"]
    others = [(key, value) for key, value in pairs if key != "id"]
    return factory(loop, NetdevRequest(names[-1] if names else id, others, host, getrandbits, hub))


def _user(loop: Loop, request: NetdevRequest) -> Backend:
    return UserNetdev(loop, request.id, UserOptions.from_pairs(request.pairs), request.host, request.getrandbits)


def _hubport(loop: Loop, request: NetdevRequest) -> Backend:
    del loop  # a hub has its own
    return HubportNetdev.from_pairs(request.id, request.pairs, request.hub)


TYPES: Final[dict[str, Callable[[Loop, NetdevRequest], Backend]]] = {"hubport": _hubport, "user": _user}
