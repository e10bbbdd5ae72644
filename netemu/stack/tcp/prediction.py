"""Header prediction: the segment that was to be expected, taken without the checks that it passes anyway.

Nearly every segment of a connection that goes well is the next one, with an ACK of something that is outstanding or of nothing
new. `take_predicted` recognises it from the header's fields and does what SEGMENT ARRIVES (`arrival`) does to it; anything else it
leaves alone, for `arrival` to take. The text goes first, so that its reader is at work while the rest is done: to a predicted
segment the two halves of the connection have nothing to do with each other. So no values are made for segment and options, which
halves the work. (Van Jacobson, "TCP header prediction", 1990; the receiver's half of RFC 1323, appendix.)

Predicted is: the state ESTABLISHED, the sequence number RCV.NXT, all of the text inside the window and nothing held out of order,
no flag but ACK and PSH, a timestamp that is not old where they were agreed on, an acknowledgment between SND.UNA and SND.NXT
that cannot be a duplicate one, and no loss being recovered from.
"""

from __future__ import annotations

from netemu.stack.tcp.sequence import difference
from netemu.stack.tcp.state import State
from netemu.stack.tcp.tcb import Tcb

__all__ = ["take_predicted"]

_MASK = 0xFFFFFFFF


def take_predicted(
    tcb: Tcb, sequence: int, acknowledgment: int, window: int, stamps: tuple[int, int] | None, payload: bytes | memoryview, now: int
) -> bool:
    """Take the segment with these fields, all as they are on the wire; False: it is not as predicted, and nothing was done."""
    receiver, sender, agreement = tcb.receiver, tcb.sender, tcb.agreement
    una = sender.una
    advance = acknowledgment - una & _MASK
    if (
        tcb.state is not State.ESTABLISHED
        or sequence != receiver.nxt & _MASK
        or advance > sender.nxt - una
        or sender.scoreboard is not None
        or not receiver.takes_next(len(payload))
        or not (advance or payload or una == sender.nxt)
    ):
        return False
    if agreement.timestamps and (stamps is None or difference(stamps[0], receiver.recent) < 0):
        return False
    expected, number = receiver.nxt, una + advance
    if payload:
        receiver.text(expected, payload, now)
    if agreement.timestamps and stamps is not None:
        receiver.remember_timestamp(stamps[0], expected, now)
    tcb.keepalive.heard(now)
    sender.acknowledge(number, (), tcb.round_trip(stamps, now) if advance else None, now, duplicate=False)
    sender.set_window(expected, number, window << agreement.send_shift)
    return True
