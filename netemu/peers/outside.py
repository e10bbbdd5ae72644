"""The outside of a user-mode network that is a program: a private namespace, so that a guest's packets stay home.

It has the addresses that the test gives its host, and a link without neighbours, for such programs want an interface to take as
their template and their way out.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Final

from netemu.io.namespace import Namespace
from netemu.io.oshost import NetnsHost
from netemu.net.loop import Loop

__all__ = ["RESOLVER", "TEMPLATE", "open_outside"]

RESOLVER: Final = "127.0.0.53"
"""The name server inside: where `Host.dns_server` serves unless told otherwise."""
TEMPLATE: Final = "template0"
"""The link's name."""

_ADDRESSES: Final = ("198.51.100.1/24", "2001:db8:100::1/64")  # RFC 5737, TEST-NET-2; RFC 3849


def open_outside(made: ExitStack, loop: Loop, name: str, groups: tuple[int, int]) -> NetnsHost:
    """A host in a namespace of its own (`host.namespace`), which `made` closes; `groups`, first and last, may open ping sockets."""
    namespace = made.enter_context(Namespace(name))
    namespace.add_bridge(TEMPLATE)
    for address in _ADDRESSES:
        namespace.add_address(address, TEMPLATE)
    namespace.set_ping_group_range(*groups)
    host = NetnsHost(loop, namespace, nameservers=(RESOLVER,))
    made.callback(host.close)
    return host
