"""Mutants of TCP."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from mutant_parts import EVERYBODY, GATEWAY, HOUR, NETWORK_MAC, flags, has, is_icmp_about, patched
from mutation import (
    DropIdle,
    DropLater,
    InOrderOnly,
    Mutant,
    NeverAgain,
    both,
    change,
    changed,
    drop,
    is_ip,
    mend_tcp,
    octets,
)

import netemu.stack.tcp.arrival as arrival
import netemu.user.tcp as user_tcp
from netemu.net.clock import SECOND
from netemu.stack.tcp import TcpConfig, TcpConnection
from netemu.stack.tcp.congestion import CongestionControl
from netemu.stack.tcp.sender import Sender
from netemu.wire.ether import Ethernet
from netemu.wire.ipv4 import IPv4
from netemu.wire.tcp import ACK, FIN, RST, SYN, URG, Tcp, TcpOptions
from pytest_netemu.packet import Packet


def tcp_with(**parameters: object) -> Callable[[pytest.MonkeyPatch], None]:
    """Every connection gets these parameters."""

    def config(**usual: Any) -> TcpConfig:
        return TcpConfig(**{**usual, **parameters})

    return patched(user_tcp, "TcpConfig", config)


def sequence_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    begin, count = TcpConnection.__init__, iter(range(1, 1_000_000, 64_000))

    def counted(self: TcpConnection, *arguments: Any) -> None:
        begin(self, *arguments[:5], next(count), *arguments[6:])

    monkeypatch.setattr(TcpConnection, "__init__", counted)


class OtherSyn:
    """A SYN,ACK that comes again is a SYN, one number later."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, packet: Packet) -> list[bytes]:
        if Tcp not in packet or packet[Tcp].flags != SYN | ACK:
            return [packet.frame]
        number = packet[Tcp].sequence
        if number not in self._seen:
            self._seen.add(number)
            return [packet.frame]
        return [changed(packet, Tcp, flags=SYN, sequence=number + 1)]


def resets_at_any_number(monkeypatch: pytest.MonkeyPatch) -> None:
    check = arrival._sequence_check

    def believing(tcb: Any, segment: Tcp, *rest: Any) -> bool:
        if segment.flags & RST:
            tcb.end(errno.ECONNRESET)
            return False
        return check(tcb, segment, *rest)

    monkeypatch.setattr(arrival, "_sequence_check", believing)


def believes_any(tcb: Any, sequence: int, flags: int, now: int) -> bool:
    del sequence, now
    if flags & RST:
        tcb.end(errno.ECONNRESET)
    return not flags & RST


def dies_of_a_syn(tcb: Any, flags: int, now: int) -> bool:
    del now
    if flags & SYN:
        tcb.end(errno.ECONNRESET)
    return not flags & SYN


def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = CongestionControl.__init__

    def huge(self: Any, *arguments: Any, **more: Any) -> None:
        begin(self, *arguments, **more)
        self.window = 1 << 20

    monkeypatch.setattr(CongestionControl, "__init__", huge)


def hole_in_window(packet: Packet) -> list[bytes]:
    """The window that is announced shrinks with every acknowledgement."""
    if Tcp in packet and packet[Tcp].flags & (SYN | RST) == 0:
        segment = packet[Tcp]
        return [changed(packet, Tcp, window=max(segment.window - 3 * (segment.acknowledgment - 1_000_001), 0) & 0xFFFF)]
    return [packet.frame]


TCP_HANDSHAKE = (
    Mutant("tcp_any_checksum", ("rfc9293/3.1/01",), into=octets(is_ip(6), mend_tcp)),
    Mutant("tcp_unknown_options", ("rfc9293/3.1/02",), into=drop(Tcp, lambda segment: bool(segment.options.unknown))),
    Mutant(
        "tcp_dies_of_options",
        ("rfc9293/3.1/03",),
        into=DropLater(lambda p: is_ip(6)(p.frame) and Tcp not in p, lambda p: is_ip(6)(p.frame)),
    ),
    Mutant("tcp_signed_window", ("rfc9293/3.1/04",), into=change(Tcp, lambda segment: segment.window > 0x7FFF, window=0)),
    Mutant(
        "tcp_options_in_syn_only",
        ("rfc9293/3.1/05",),
        into=drop(Tcp, lambda segment: not segment.flags & SYN and segment.options != TcpOptions()),
    ),
    Mutant("tcp_sequence_in_steps", ("rfc9293/3.4.1/01",), patch=sequence_in_steps),
    Mutant("tcp_no_simultaneous_open", ("rfc9293/3.5/01",), into=drop(Tcp, lambda s: s.flags == SYN and s.source_port == 7000)),
    Mutant("tcp_closed_in_silence", ("rfc9293/3.5.2/01",), out=drop(Tcp, lambda segment: bool(segment.flags & RST))),
    Mutant("tcp_reset_from_zero", ("rfc9293/3.5.2/02",), out=change(Tcp, flags(RST), sequence=0)),
    Mutant(
        "tcp_reset_acks_too_much",
        ("rfc9293/3.5.2/03",),
        out=change(Tcp, flags(RST | ACK), acknowledgment=lambda s: s.acknowledgment + 1),
    ),
    Mutant("tcp_answers_resets", ("rfc9293/3.10.7.1/01",), into=change(Tcp, lambda s: bool(s.flags & RST), flags=ACK)),
    Mutant(
        "tcp_wrong_ack", ("rfc9293/3.10.7.2/01",), out=change(Tcp, flags(SYN | ACK), acknowledgment=lambda s: s.acknowledgment + 1)
    ),
    Mutant("tcp_no_mss", ("rfc9293/3.7.1/01",), out=change(Tcp, flags(SYN | ACK), options=TcpOptions())),
    Mutant(
        "tcp_syn_for_all",
        ("rfc9293/3.9.2.3/01",),
        into=both(
            change(IPv4, lambda ip: ip.destination == EVERYBODY, destination=GATEWAY),
            lambda p: [changed(p, Ethernet, destination=NETWORK_MAC) if IPv4 in p else p.frame],
        ),
    ),
    Mutant("tcp_gives_up_early", ("rfc9293/3.8.3/01",), patch=tcp_with(syn_retries=3)),
    Mutant(
        "tcp_new_syn_number",
        ("rfc9293/3.8.3/01",),
        out=change(Tcp, flags(SYN), sequence=lambda s: s.sequence + s.options.timestamps[0]),
    ),
)

TCP_DATA = (
    Mutant("tcp_mss_ignored", ("rfc9293/3.7.1/02", "rfc9293/3.7.1/03"), into=change(Tcp, flags(SYN), options=TcpOptions(mss=1460))),
    Mutant("tcp_narrow_path_ignored", ("rfc1191/3/01",), patch=patched(TcpConnection, "path_mss_lowered", lambda *_: None)),
    Mutant("tcp_window_ignored", ("rfc9293/3.8.6/01", "rfc9293/3.8.6/04"), into=change(Tcp, window=0xFFFF)),
    Mutant("tcp_window_shrinks", ("rfc9293/3.8.6/02",), out=hole_in_window),
    Mutant("tcp_dies_of_shrinking", ("rfc9293/3.8.6/03",), into=DropLater(lambda p: Tcp in p and p[Tcp].window == 0, has(Tcp))),
    Mutant("tcp_no_probes", ("rfc9293/3.8.6.1/01",), out=drop(Tcp, lambda segment: len(segment.payload) == 1)),
    Mutant("tcp_gives_up_probing", ("rfc9293/3.8.6.1/02",), out=NeverAgain(10, reset=True)),
    Mutant(
        "tcp_probes_regularly",
        ("rfc9293/3.8.6.1/03",),
        patch=lambda m: m.setattr(Sender, "_persist_interval", lambda self: 5 * SECOND),
    ),
    Mutant("tcp_no_acks", ("rfc9293/3.8.6.3/01", "rfc9293/3.10.7.4/02"), out=drop(Tcp, lambda s: s.flags == ACK and not s.payload)),
    Mutant("tcp_in_order_only", ("rfc9293/3.10.7.4/01",), into=InOrderOnly()),
    Mutant("tcp_never_again", ("rfc9293/3.8.1/01",), out=NeverAgain()),
    Mutant(
        "tcp_counts_its_syns",
        ("rfc9293/3.10.8/01",),
        out=change(Tcp, flags(SYN), sequence=lambda s: s.sequence + s.options.timestamps[0]),
    ),
    Mutant("tcp_repeats_its_syn_as_another", ("rfc9293/3.10.8/01",), out=OtherSyn()),
    Mutant("tcp_repeats_regularly", ("rfc9293/3.8.2/01",), patch=tcp_with(max_rto_ns=SECOND)),
    Mutant("tcp_bursts", ("rfc5681/3/01",), patch=all_at_once),
    Mutant("tcp_no_fast_retransmit", ("rfc5681/3.2/01",), patch=lambda m: m.setattr(Sender, "_duplicate", lambda self: None)),
    Mutant("tcp_no_half_close", ("rfc5382/4.2/01",), into=change(Tcp, lambda s: bool(s.flags & FIN), flags=RST | ACK)),
)

TCP_URGENT = (
    Mutant("tcp_no_urgent_data", ("rfc9293/3.8.5/01",), into=change(Tcp, flags=lambda s: s.flags & ~URG)),
    Mutant("tcp_little_is_urgent", ("rfc9293/3.8.5/02",), into=change(Tcp, urgent_pointer=lambda s: min(s.urgent_pointer, 1000))),
    Mutant(
        "tcp_points_at_the_urgent", ("rfc9293/3.8.5/03",), out=change(Tcp, urgent_pointer=lambda s: max(s.urgent_pointer - 1, 0))
    ),
    Mutant(
        "tcp_urgent_out_of_band",
        ("rfc9293/2.2/01",),
        out=change(Tcp, payload=lambda s: s.payload.replace(b"Zc", b"cd") if s.flags & URG else s.payload),
    ),
)

TCP_CLOSE = (
    Mutant("tcp_believes_resets", ("rfc9293/3.5.3/01",), patch=resets_at_any_number),
    Mutant("tcp_believes_resets_in_the_window", ("rfc9293/3.10.7.4/05",), patch=patched(arrival, "_rst_check", believes_any)),
    Mutant("tcp_resets_without_data", ("rfc9293/3.5.3/02",), into=drop(Tcp, lambda s: bool(s.flags & RST and s.payload))),
    Mutant("tcp_reset_as_fin", ("rfc9293/3.6/01",), into=change(Tcp, lambda s: bool(s.flags & RST), flags=FIN | ACK)),
    Mutant("tcp_fin_as_reset", ("rfc9293/3.6/01",), into=change(Tcp, lambda s: bool(s.flags & FIN), flags=RST | ACK)),
    Mutant("tcp_no_time_wait", ("rfc9293/3.6.1/01",), patch=tcp_with(msl_ns=SECOND)),
    Mutant("tcp_no_time_wait_at_all", ("rfc9293/3.10.7.4/04",), patch=tcp_with(msl_ns=0)),
    Mutant("tcp_dies_of_a_syn", ("rfc9293/3.10.7.4/03",), patch=patched(arrival, "_syn_check", dies_of_a_syn)),
    Mutant("tcp_keepalive", ("rfc9293/3.8.4/01",), patch=tcp_with(keepalive_idle_ns=60 * SECOND)),
    Mutant("tcp_forgets_the_idle", ("rfc5382/5/01",), into=DropIdle(HOUR)),
    Mutant("tcp_dies_of_errors", ("rfc5382/7.3/01",), into=DropLater(is_icmp_about(6), has(Tcp))),
)
