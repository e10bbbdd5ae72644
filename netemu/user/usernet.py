"""The flows of user-mode networks as QEMU's monitor prints them: the text of HMP's `info usernet` (hmp-commands-info.hx).

One table for each network: its forwarded ports first, then its flows, in the columns that libslirp's `slirp_connection_info` has
printed since QEMU 0.12. TCP has the state's BSD name, the others the seconds until they expire. `RecvQ` are octets from the guest
that the host's side has not delivered, `SendQ` octets for the guest that it has not acknowledged. The column `FD` is a number of
QEMU's own and always -1 here, as is a hub's where there is none.

QEMU shows IPv4 only; an IPv6 address here is wider than its column. A UNIX socket that is forwarded is shown as `*`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from netemu.net.clock import SECOND
from netemu.user.flow import Flow
from netemu.user.forward import Forward
from netemu.wire.address import Endpoint

__all__ = ["info_usernet"]

_HEADER: Final = "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ"
_NO_FD: Final = -1
_FORWARD: Final = "HOST_FORWARD"
_TCP_STATES: Final = {"CONNECTING": "SYN_RCVD", "SYN-RECEIVED": "SYN_RCVD"}
"""Where BSD's name (netinet/tcp_fsm.h) is not RFC 9293's with underscores."""


def info_usernet(name: str, forwards: Iterable[Forward], flows: Iterable[Flow], now: int, *, hub: int = -1) -> str:
    """The table of the network `name` on hub `hub` at `now` (nanoseconds of its clock), each line with its end."""
    lines = [f"Hub {hub} ({name}):", _HEADER]
    lines += [_line(f"{each.protocol.upper()}[{_FORWARD}]", _forwarded(each), _end(each.guest), 0, 0) for each in forwards]
    lines += [_flow(flow, now) for flow in flows]
    return "".join(f"{line}\n" for line in lines)


def _flow(flow: Flow, now: int) -> str:
    if flow.protocol == "tcp":
        state = _TCP_STATES.get(flow.state, flow.state.replace("-", "_"))
    else:
        state = f"{max((flow.expires or now) - now, 0) // SECOND} sec"
    protocol = "UDP" if flow.protocol == "dns" else flow.protocol.upper()
    if flow.protocol == "icmp":
        source, target = f"{flow.guest.address!s:>15}  -   ", f"{'*':>15}  -   "
    else:
        source, target = _end(flow.guest), _end(flow.remote)
    return _line(f"{protocol}[{state}]", source, target, flow.host_queue, flow.guest_queue)


def _line(what: str, source: str, target: str, received: int, sent: int) -> str:
    return f"  {what:<17} {_NO_FD:3} {source} {target} {received:5} {sent:5}"


def _end(endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return f"{'*':>15} {0:5}"
    address = "*" if endpoint.address.is_unspecified else str(endpoint.address)
    return f"{address:>15} {endpoint.port:5}"


def _forwarded(forward: Forward) -> str:
    return _end(forward.host if forward.path is None else None)
