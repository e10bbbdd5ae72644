"""Mutants of the TFTP server and of what DHCP says of booting."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from mutant_parts import GATEWAY, patched, server
from mutation import Mutant, change, drop

import netemu.user.dhcp as dhcp
from netemu.io.files import Folder, FolderReader
from netemu.net.clock import SECOND
from netemu.user import tftp as user_tftp
from netemu.user.tftp import TftpServer
from netemu.user.tftp_transfer import Sender
from netemu.wire import tftp
from netemu.wire.address import Endpoint
from netemu.wire.tftp import Opcode
from netemu.wire.udp import Udp


def says(opcode: Opcode, rest: bytes = b"") -> Callable[[Udp], bool]:
    """A datagram that is this packet, or begins so."""
    return lambda datagram: datagram.payload.startswith(opcode.to_bytes(2, "big") + rest)


def grants(**changes: Callable[[str], str]) -> Callable[[pytest.MonkeyPatch], None]:
    """The server acknowledges other values than it should, where it acknowledges the option."""
    usual = TftpServer._terms

    def terms(self: TftpServer, guest: Endpoint, request: tftp.Request, size: int | None) -> Any:
        granted: Mapping[str, str] = usual(self, guest, request, size).granted
        return user_tftp._Terms({name: changes.get(name, str)(value) for name, value in granted.items()})

    return patched(TftpServer, "_terms", terms)


def unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = TftpServer._terms

    def terms(self: TftpServer, guest: Endpoint, request: tftp.Request, size: int | None) -> Any:
        return user_tftp._Terms({**usual(self, guest, request, size).granted, **request.options})

    monkeypatch.setattr(TftpServer, "_terms", terms)


def any_number(self: Sender, packet: tftp.Acknowledgment) -> list[tftp.Packet]:
    """As libslirp: whatever is acknowledged, the next block follows."""
    return _RECEIVE(self, replace(packet, block=self._base & 0xFFFF))


def apprentice(self: Sender, packet: tftp.Acknowledgment) -> list[tftp.Packet]:
    return _RECEIVE(self, packet) or self.again()


def steady(self: TftpServer, transfer: Any, packets: list[tftp.Packet], now: int) -> None:
    _PUT(self, transfer, packets, now)
    transfer.due = now + SECOND


def never_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TftpServer, "deadline", lambda _: None)
    monkeypatch.setattr(TftpServer, "expire", lambda *_: None)


def anywhere(self: Folder, name: str) -> FolderReader:
    return FolderReader(os.open(name.lstrip("/"), os.O_RDONLY, dir_fd=self._root))


def writable(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = TftpServer.__init__

    def init(self: TftpServer, *arguments: Any, **keywords: Any) -> None:
        usual(self, *arguments, **{**keywords, "writable": True})

    monkeypatch.setattr(TftpServer, "__init__", init)


_RECEIVE, _PUT = Sender.receive, TftpServer._put

TFTP = (
    Mutant("tftp_is_not_there", ("qemu/tftp/01",), patch=patched(TftpServer, "owns", lambda *_: False)),
    Mutant("tftp_takes_files", ("qemu/tftp/02",), patch=writable),
    Mutant("tftp_serves_everything", ("rfc1350/security/01",), patch=patched(Folder, "open", anywhere)),
    Mutant("tftp_two_blocks_at_once", ("rfc1350/2/01",), patch=patched(user_tftp._Terms, "window", 2)),
    Mutant(
        "tftp_no_empty_block", ("rfc1350/2/02",), out=drop(Udp, lambda each: says(Opcode.DATA)(each) and len(each.payload) == 4)
    ),
    Mutant("tftp_sends_once", ("rfc1350/2/03",), patch=never_again),
    Mutant("tftp_from_port_69", ("rfc1350/4/01",), out=change(Udp, says(Opcode.DATA), source_port=69)),
    Mutant("tftp_strangers_hear_nothing", ("rfc1350/4/02",), out=drop(Udp, says(Opcode.ERROR, b"\0\5"))),
    Mutant("tftp_any_number_will_do", ("rfc1350/5/01",), patch=patched(Sender, "receive", any_number)),
    Mutant("tftp_apprentice", ("rfc1123/4.2.3.1/01",), patch=patched(Sender, "receive", apprentice)),
    Mutant("tftp_steady_timeout", ("rfc1123/4.2.3.2/01",), patch=patched(TftpServer, "_put", steady)),
    Mutant("tftp_grants_what_it_does_not_know", ("rfc2347/negotiation/01",), patch=unasked),
    Mutant("tftp_larger_blocks", ("rfc2348/option/01",), patch=grants(blksize=lambda _: "1468")),
    Mutant("tftp_size_of_something_else", ("rfc2349/tsize/01",), patch=grants(tsize=lambda value: value + "0")),
    Mutant("tftp_timeout_of_its_own", ("rfc2349/timeout/01",), patch=grants(timeout=lambda _: "2")),
    Mutant("tftp_larger_windows", ("rfc7440/3/01",), patch=grants(windowsize=lambda value: str(int(value) + 1))),
    Mutant("boot_file_not_told", ("qemu/bootfile/01",), patch=patched(dhcp, "_next_server", lambda _: GATEWAY + 1)),
    Mutant("boot_server_not_told", ("qemu/tftp-server-name/01",), out=server(TFTP_SERVER_NAME=None)),
)
