"""The octets of a saved user-mode network, version 1.

    octets   what
    8        magic: 6e 65 74 65 6d 75 0d 0a ("netemu", CR, LF: a transfer that changes line ends is noticed)
    4        version, 1
    4        length of the text
    4        length of the heap
    ...      text: JSON in ASCII without spaces, a `NetworkSnapshot` as `netemu.user.state_codec` writes it
    ...      heap: the octets that the text refers to, in order (queues, client identifiers)
    32       SHA-256 of everything before

Numbers are big-endian. At most 256 MiB in all. There is one way to write a state, and nothing else is read: `unpack` refuses what
`pack` would not have written, with one sentence. The digest is against accidents, not against somebody who makes states up; what
such a state says is checked as well, so the worst it does is to name connections that are not there.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from dataclasses import fields
from hashlib import sha256
from typing import Final

from netemu.errors import LocalError
from netemu.user.leases import LeaseSnapshot
from netemu.user.options import UserOptions
from netemu.user.snapshot import ConnectionSnapshot, NetworkSnapshot, Used
from netemu.user.state_codec import decode, encode
from netemu.wire.address import IPAddress

__all__ = ["MAGIC", "MAXIMUM", "VERSION", "check", "pack", "unpack", "visible_options"]

MAGIC: Final = b"netemu\r\n"
VERSION: Final = 1
MAXIMUM: Final = 1 << 28  # octets
_HEAD: Final = struct.Struct("!8sIII")
_DIGEST: Final = 32
_UNSEEN: Final = frozenset({"hostfwd", "guestfwd", "smb", "tftp", "outbound_addr"})  # the host's own affair


def visible_options(options: UserOptions) -> tuple[tuple[str, str], ...]:
    """The options that guests can see, by name, as text."""
    return tuple((field.name, str(getattr(options, field.name))) for field in fields(options) if field.name not in _UNSEEN)


def pack(snapshot: NetworkSnapshot) -> bytes:
    """The octets; `LocalError` if they are more than `MAXIMUM`."""
    heap = bytearray()
    text = json.dumps(encode(snapshot, heap), separators=(",", ":")).encode("ascii")
    size = _HEAD.size + len(text) + len(heap) + _DIGEST
    if size > MAXIMUM:
        raise LocalError(f"the state has {size} octets: {MAXIMUM} are the most, so end some connections before")
    octets = _HEAD.pack(MAGIC, VERSION, len(text), len(heap)) + text + heap
    return octets + sha256(octets).digest()


def unpack(state: bytes) -> NetworkSnapshot:
    """What `pack` wrote; `LocalError` for anything else."""
    if len(state) > MAXIMUM:
        raise LocalError(f"a state of {len(state)} octets: {MAXIMUM} are the most")
    if len(state) < _HEAD.size + _DIGEST or not state.startswith(MAGIC):
        raise LocalError("this is no state of a user network: it does not begin as save_state() does, or ends too early")
    _, version, text_length, heap_length = _HEAD.unpack_from(state)
    if version != VERSION:
        raise LocalError(f"a state of version {version}: this netemu reads version {VERSION}")
    if len(state) != _HEAD.size + text_length + heap_length + _DIGEST:
        raise LocalError(f"a state of {len(state)} octets says that it has another length: it was cut off or added to")
    if sha256(state[:-_DIGEST]).digest() != state[-_DIGEST:]:
        raise LocalError("the state was damaged: its digest is another one")
    heap_at = _HEAD.size + text_length
    try:
        text = state[_HEAD.size : heap_at].decode("ascii")
    except UnicodeDecodeError:
        raise LocalError("the state is not what save_state() gave: its text is not ASCII") from None
    snapshot = decode(NetworkSnapshot, text, state[heap_at:-_DIGEST])
    if pack(snapshot) != state:
        raise LocalError("the state is not what save_state() gave: it is written in another way")
    return snapshot


def check(snapshot: NetworkSnapshot, options: UserOptions) -> None:
    """Can a network with `options` be in this state? `LocalError` if not."""
    theirs, ours = dict(snapshot.options), dict(visible_options(options))
    for name in ours | theirs:
        if theirs.get(name) != ours.get(name):
            was = f"{name.replace('_', '-')}={theirs.get(name)}"
            raise LocalError(f"the state is of a network with {was}, this one has {ours.get(name)}: give it the same")
    settled = {address for _, address in options.static_lease}
    _check_leases(snapshot.leases, {*options.pool, *settled})
    _check_leases(snapshot.leases6, options.pool6)
    _require("the IP identification", 0 <= snapshot.identification <= 0xFFFF)
    ends = [(each.guest, each.remote) for each in snapshot.connections] + [(each.guest, each.remote) for each in snapshot.lost]
    guests = [guest.address for guest, _ in ends]
    guests += [each.guest.address for each in snapshot.mappings]
    guests += [each.guest for each in snapshot.sessions]
    guests += [each.address for each in (*snapshot.neighbours, *snapshot.neighbours6)]
    _require("a guest's address", all(_is_guest(address, options) for address in guests))
    _require("a ping's identifier", all(0 <= each.identifier <= 0xFFFF for each in snapshot.sessions))
    numbers = [number for each in snapshot.lost for number in (each.sequence, each.acknowledgment)]
    _require("a sequence number", all(0 <= number < 1 << 32 for number in numbers))
    _require("a connection", len(set(ends)) == len(ends) and all(map(_fits, snapshot.connections)))
    _require("an age", all(age >= 0 for age in _ages(snapshot)))


def _check_leases(leases: Iterable[LeaseSnapshot], allowed: Iterable[IPAddress]) -> None:
    pool = set(allowed)
    addresses = [lease.address for lease in leases]
    _require("a lease", len(set(addresses)) == len(addresses) and all(address in pool for address in addresses))


def _is_guest(address: IPAddress, options: UserOptions) -> bool:
    if address.version == 4:
        return options.ipv4 and address in options.net and address not in options.own_addresses
    return options.ipv6 and (address in options.ipv6_net or address.is_link_local) and address not in options.own_addresses6


def _fits(flow: ConnectionSnapshot) -> bool:
    """Do the two ends belong together? What the guest has not acknowledged is the host's, and both know of the same FINs."""
    send, stream = flow.connection.send, flow.stream
    waiting = len(stream.received)
    return (
        flow.guest.address.version == flow.remote.address.version
        and stream.local.address.version == stream.remote.address.version
        and send.outstanding <= waiting
        and (send.fin is None or (stream.eof and send.fin == send.data + waiting))
        and stream.finished == flow.connection.receive.finished
    )


def _ages(snapshot: NetworkSnapshot) -> list[int]:
    used: tuple[Used, ...] = (*snapshot.mappings, *snapshot.peers, *snapshot.sessions)
    ages = [number for each in used for number in (each.age, each.idle, each.sent, each.received)]
    ages += [each.age for each in snapshot.connections]
    ages += [each.age for each in (*snapshot.neighbours, *snapshot.neighbours6)]
    ages += [lease.remaining for lease in (*snapshot.leases, *snapshot.leases6)]
    return [*ages, snapshot.router.sent, snapshot.router.last or 0, snapshot.router.next or 0]


def _require(what: str, holds: bool) -> None:
    if not holds:
        raise LocalError(f"the state is not what save_state() gave: {what} in it is not possible in this network")
