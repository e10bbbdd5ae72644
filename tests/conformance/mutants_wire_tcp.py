"""Mutants of a guest's TCP. What breaks frames is the user network's, where the same sentence is judged."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address
from typing import Any

import pytest
from mutant_parts import GATEWAY, UNREACHABLE, has, icmp, is_icmp_about, patched
from mutants_tcp import TCP_CLOSE, TCP_DATA, TCP_HANDSHAKE
from mutants_wire import NOBODY, like, takes_all
from mutation import DropLater, Mutant, change, changed, drop, is_ip

import netemu.stack.endpoint as endpoint
import netemu.stack.tcp.arrival as arrival
import netemu.stack.tcp.negotiation as negotiation
from netemu.net.clock import SECOND
from netemu.stack.tcp import TcpConfig
from netemu.stack.tcp.congestion import CongestionControl
from netemu.stack.tcp.receiver import Receiver
from netemu.stack.tcp.sender import Sender
from netemu.wire.icmpv4 import IcmpType, Icmpv4
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import ACK, FIN, PSH, RST, SYN, Tcp, TcpOptions
from pytest_netemu.packet import Packet

FROM_NOBODY = {*NOBODY, IPv4Address("10.0.2.255")}


def guest_tcp_with(**parameters: object) -> Callable[[pytest.MonkeyPatch], None]:
    """Every connection of a guest gets these parameters."""
    return patched(endpoint, "TcpConfig", lambda: TcpConfig(**parameters))  # type: ignore[arg-type] # its own


def is_reset(segment: Tcp) -> bool:
    return bool(segment.flags & RST)


def is_syn(segment: Tcp) -> bool:
    return bool(segment.flags & SYN)


def options(**fields: Any) -> Callable[[Tcp], TcpOptions]:
    """A segment's options with some of them changed."""
    return lambda segment: replace(segment.options, **fields)


def options_are_aligned(packet: Packet) -> list[bytes]:
    """Options that begin with no operation are not seen."""
    odd = Tcp in packet and packet[Tcp].flags & SYN and packet.frame[54] == 1
    return [changed(packet, Tcp, options=TcpOptions()) if odd else packet.frame]


def reads_reserved_bits(packet: Packet) -> list[bytes]:
    return [] if is_ip(6)(packet.frame) and packet.frame[46] & 0x0F else [packet.frame]


def in_syn_sent(wrong: Callable[[Callable[..., None], Any, Tcp, int], None]) -> Callable[[pytest.MonkeyPatch], None]:
    """In SYN-SENT, `wrong` is called with what is right and its arguments."""
    return patched(arrival, "_in_syn_sent", partial(wrong, arrival._in_syn_sent))


def takes_any_answer(right: Callable[..., None], tcb: Any, segment: Tcp, now: int) -> None:
    right(tcb, replace(segment, acknowledgment=tcb.sender.nxt & 0xFFFFFFFF), now)


def believes_any_reset(right: Callable[..., None], tcb: Any, segment: Tcp, now: int) -> None:
    if segment.flags & RST:
        tcb.end(errno.ECONNREFUSED)
    else:
        right(tcb, segment, now)


def dies_without_syn(right: Callable[..., None], tcb: Any, segment: Tcp, now: int) -> None:
    if segment.flags & (SYN | RST):
        right(tcb, segment, now)
    else:
        tcb.end(errno.ECONNRESET)


def reset_in_handshake(tcb: Any, sequence: int, segment_flags: int, now: int) -> bool:
    """Whoever opened a connection, it was reset."""
    del sequence, now
    if segment_flags & RST:
        tcb.end(errno.ECONNRESET)
    return not segment_flags & RST


def forgets_the_largest_window(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Sender.set_window

    def forgetful(self: Sender, *arguments: int) -> None:
        usual(self, *arguments)
        self.max_wnd = self.wnd

    monkeypatch.setattr(Sender, "set_window", forgetful)


WIRE_TCP_LISTEN = (
    *like(
        (*TCP_HANDSHAKE, *TCP_DATA),
        "rfc9293/3.1/01",
        "rfc9293/3.1/02",
        "rfc9293/3.1/03",
        "rfc9293/3.1/05",
        "rfc9293/3.4.1/01",
        "rfc9293/3.5/01",
        "rfc9293/3.5.2/01",
        "rfc9293/3.5.2/02",
        "rfc9293/3.5.2/03",
        "rfc9293/3.10.7.1/01",
        "rfc9293/3.10.7.2/01",
        "rfc9293/3.10.8/01",
    ),
    Mutant("tcp_no_resets", ("rfc9293/3.10.7.2/02", "rfc9293/3.10.7.4/07", "rfc9293/3.10.7.3/02"), out=drop(Tcp, is_reset)),
    Mutant("tcp_listener_answers_resets", ("rfc9293/3.10.7.2/03",), into=change(Tcp, is_reset, flags=ACK)),
    Mutant("tcp_listens_until_reset", ("rfc9293/3.10.7.4/06",), into=DropLater(lambda p: Tcp in p and is_reset(p[Tcp]), has(Tcp))),
    Mutant("tcp_options_aligned", ("rfc9293/3.1/06", "rfc9293/3.1/08"), into=options_are_aligned),
    Mutant("tcp_reads_reserved_bits", ("rfc9293/3.1/07",), into=reads_reserved_bits),
    Mutant("tcp_announces_nothing", ("rfc9293/3.7.1/01", "rfc9293/3.7.1/04"), out=change(Tcp, is_syn, options=TcpOptions())),
    Mutant("tcp_announces_too_much", ("rfc9293/3.7.1/05",), out=change(Tcp, is_syn, options=options(mss=1500))),
    Mutant("tcp_scales_unasked", ("rfc7323/2.2/01",), out=change(Tcp, is_syn, options=options(window_scale=7))),
    Mutant("tcp_stamps_unasked", ("rfc7323/3.2/01",), out=change(Tcp, is_syn, options=options(timestamps=(1, 0)))),
    Mutant("tcp_takes_all", ("rfc9293/3.9.2.3/01",), into=takes_all),
    Mutant("tcp_any_source", ("rfc9293/3.9.2.3/02",), into=change(IPv4, lambda ip: ip.source in FROM_NOBODY, source=GATEWAY)),
)

WIRE_TCP_CONNECT = (
    Mutant("tcp_no_last_ack", ("rfc9293/3.10.7.3/01",), out=drop(Tcp, lambda s: s.flags == ACK and not s.payload)),
    Mutant("tcp_takes_any_answer", ("rfc9293/3.10.7.3/02",), patch=in_syn_sent(takes_any_answer)),
    Mutant("tcp_is_not_refused", ("rfc9293/3.10.7.3/03",), into=drop(Tcp, is_reset)),
    Mutant("tcp_refused_by_any_reset", ("rfc9293/3.10.7.3/04",), patch=in_syn_sent(believes_any_reset)),
    Mutant("tcp_dies_without_syn", ("rfc9293/3.10.7.3/05",), patch=in_syn_sent(dies_without_syn)),
    Mutant("tcp_reset_in_handshake", ("rfc9293/3.10.7.4/08",), patch=patched(arrival, "_rst_check", reset_in_handshake)),
    Mutant(
        "tcp_server_has_no_size", ("rfc9293/3.7.1/02", "rfc9293/3.7.1/03"), into=change(Tcp, is_syn, options=TcpOptions(mss=1460))
    ),
    Mutant("tcp_soon_gives_up", ("rfc9293/3.8.3/01",), patch=guest_tcp_with(syn_retries=3)),
    Mutant("tcp_deaf_to_errors", ("rfc9293/3.9.2.2/01", "rfc9293/3.9.2.2/04"), into=drop(Icmpv4, icmp(UNREACHABLE))),
    Mutant(
        "tcp_dies_when_quenched",
        ("rfc9293/3.9.2.2/02",),
        into=DropLater(lambda p: Icmpv4 in p and p[Icmpv4].type == IcmpType.SOURCE_QUENCH, has(Tcp)),
    ),
    Mutant("tcp_dies_of_soft_errors", ("rfc9293/3.9.2.2/03",), into=DropLater(is_icmp_about(6), has(Tcp))),
)

WIRE_TCP_SEND = (
    *like(
        (*TCP_HANDSHAKE, *TCP_DATA),
        "rfc1191/3/01",
        "rfc5681/3/01",
        "rfc5681/3.2/01",
        "rfc9293/3.1/04",
        "rfc9293/3.8.1/01",
        "rfc9293/3.8.6/01",
        "rfc9293/3.8.6/03",
        "rfc9293/3.8.6/04",
        "rfc9293/3.8.6.1/01",
        "rfc9293/3.8.6.1/02",
        "rfc9293/3.8.6.1/03",
    ),
    Mutant("tcp_reverses", ("rfc9293/2.2/01",), out=change(Tcp, payload=lambda s: s.payload[::-1])),
    Mutant("tcp_short_segments", ("rfc9293/3.9.1.2/02",), patch=guest_tcp_with(mss=1000)),
    Mutant("tcp_pushes_nothing", ("rfc9293/3.9.1.2/01",), out=change(Tcp, flags=lambda s: s.flags & ~PSH)),
    Mutant("tcp_silly_windows", ("rfc9293/3.8.6.2.1/01",), patch=forgets_the_largest_window),
    Mutant("tcp_scales_no_window", ("rfc7323/2.3/01",), into=change(Tcp, is_syn, options=options(window_scale=None))),
    Mutant("tcp_scales_by_fifteen", ("rfc7323/2.3/02",), patch=patched(negotiation, "MAXIMUM_WINDOW_SCALE", 15)),
    Mutant("tcp_hurries", ("rfc6298/2/01",), patch=guest_tcp_with(min_rto_ns=SECOND // 5)),
    Mutant("tcp_hammers", ("rfc9293/3.8.2/01", "rfc6298/5/01"), patch=guest_tcp_with(max_rto_ns=SECOND)),
    Mutant("tcp_all_again", ("rfc5681/3.1/01",), patch=patched(CongestionControl, "timed_out", lambda *_: None)),
    Mutant("tcp_soon_dead", ("rfc9293/3.8.3/02",), patch=guest_tcp_with(retries=3)),
    Mutant("tcp_never_dead", ("rfc9293/3.8.3/03",), patch=guest_tcp_with(retries=1000)),
    Mutant("tcp_no_probes_at_all", ("rfc9293/3.8.6/05",), out=drop(Tcp, lambda s: len(s.payload) == 1)),
    Mutant("tcp_probes_late", ("rfc9293/3.8.6.1/04",), patch=patched(Sender, "_persist_interval", lambda _: 5 * SECOND)),
)

WIRE_TCP_RECEIVE = (
    *like(TCP_DATA, "rfc9293/3.8.6/02", "rfc9293/3.8.6.3/01", "rfc9293/3.10.7.4/01"),
    Mutant(
        "tcp_acks_nothing",
        (
            "rfc5681/3.2/02",
            "rfc5681/3.2/03",
            "rfc9293/3.6/03",
            "rfc9293/3.8.6.1/05",
            "rfc9293/3.8.6.3/02",
            "rfc9293/3.10.7.4/02",
        ),
        out=drop(Tcp, lambda s: s.flags == ACK and not s.payload),
    ),
    Mutant("tcp_offers_an_octet", ("rfc9293/3.8.6.2.2/01",), out=change(Tcp, lambda s: s.flags == ACK and not s.window, window=1)),
    Mutant("tcp_deaf_to_resets", ("rfc9293/3.4/01",), into=drop(Tcp, is_reset)),
    Mutant(
        "tcp_sack_without_permission",
        ("rfc2018/2/01", "rfc2018/4/01"),
        out=change(Tcp, lambda s: s.flags == ACK, options=options(sack=((1, 2),), sack_permitted=True)),
    ),
    Mutant(
        "tcp_sack_reversed", ("rfc2018/4/02",), out=change(Tcp, options=lambda s: replace(s.options, sack=s.options.sack[::-1]))
    ),
    Mutant("tcp_sack_of_one", ("rfc2018/4/03",), out=change(Tcp, options=lambda s: replace(s.options, sack=s.options.sack[:1]))),
    Mutant("tcp_forgets_stamps", ("rfc7323/3.2/02",), out=change(Tcp, lambda s: not is_syn(s), options=options(timestamps=None))),
    Mutant("tcp_takes_the_old", ("rfc7323/5.3/01",), patch=patched(Receiver, "timestamp_is_old", lambda *_: False)),
    Mutant(
        "tcp_dies_without_stamps",
        ("rfc7323/3.2/03",),
        into=change(Tcp, lambda s: not is_syn(s) and s.options.timestamps is None, flags=RST | ACK),
    ),
)

WIRE_TCP_CLOSE = (
    *like(
        TCP_CLOSE,
        "rfc9293/3.5.3/01",
        "rfc9293/3.5.3/02",
        "rfc9293/3.6/01",
        "rfc9293/3.10.7.4/03",
        "rfc9293/3.10.7.4/05",
    ),
    Mutant(
        "tcp_takes_the_future",
        ("rfc9293/3.10.7.4/09",),
        into=change(Tcp, lambda s: s.payload == b"wrong" and bool(s.flags & ACK), acknowledgment=lambda s: s.acknowledgment - 100),
    ),
    Mutant("tcp_needs_no_ack", ("rfc9293/3.10.7.4/10",), into=change(Tcp, lambda s: not s.flags & ~PSH, flags=PSH | ACK)),
    Mutant("tcp_never_finishes", ("rfc9293/3.6/02",), out=change(Tcp, flags=lambda s: s.flags & ~FIN)),
    Mutant("tcp_closes_both_ways", ("rfc9293/3.6.1/02",), into=change(Tcp, lambda s: bool(s.flags & FIN), flags=RST | ACK)),
    Mutant("tcp_loses_in_silence", ("rfc9293/3.6.1/03",), out=drop(Tcp, is_reset)),
    Mutant("tcp_short_time_wait", ("rfc9293/3.6.1/01",), patch=guest_tcp_with(msl_ns=SECOND)),
    Mutant("tcp_without_time_wait", ("rfc9293/3.10.7.4/04",), patch=guest_tcp_with(msl_ns=0)),
    Mutant("tcp_keeps_alive", ("rfc9293/3.8.4/01",), patch=guest_tcp_with(keepalive_idle_ns=60 * SECOND)),
)

WIRE_TCP = (*WIRE_TCP_LISTEN, *WIRE_TCP_CONNECT, *WIRE_TCP_SEND, *WIRE_TCP_RECEIVE, *WIRE_TCP_CLOSE)
