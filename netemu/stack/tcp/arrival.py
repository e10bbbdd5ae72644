"""SEGMENT ARRIVES (RFC 9293 3.10.7), one function for each check, in the RFC's order.

A check lets the segment pass or drops it, after answering and counting it. The checks of RFC 5961 against blind
attackers and of RFC 7323 against old duplicates stand where those documents put them.
"""

from __future__ import annotations

import errno
from typing import Final

from netemu.stack.tcp.state import RECEIVES, RESET_IS_NO_ERROR, State
from netemu.stack.tcp.tcb import Tcb
from netemu.wire.tcp import ACK, FIN, RST, SYN, URG, Tcp

__all__ = ["segment_arrives"]

_AFTER_FIN_ACKNOWLEDGED: Final = {
    State.FIN_WAIT_1: State.FIN_WAIT_2,
    State.CLOSING: State.TIME_WAIT,
    State.LAST_ACK: State.CLOSED,
}


def segment_arrives(tcb: Tcb, segment: Tcp, now: int) -> None:
    """Take a segment that is addressed to this connection. Raises nothing, whatever it holds."""
    if tcb.state is State.CLOSED:
        tcb.reject(segment)
    elif tcb.state is State.SYN_SENT:
        _in_syn_sent(tcb, segment, now)
    elif tcb.deferred:
        _while_deferred(tcb, segment)
    else:
        _in_other_states(tcb, segment, now)


def _in_syn_sent(tcb: Tcb, segment: Tcp, now: int) -> None:
    """RFC 9293 3.10.7.3."""
    flags = segment.flags
    if flags & ACK and tcb.sender.unwrap(segment.acknowledgment) != tcb.sender.nxt:
        tcb.counters["bad_acks"] += 1
        tcb.reject(segment)
    elif flags & RST and flags & ACK:
        tcb.end(errno.ECONNREFUSED)
    elif flags & RST or not flags & SYN:
        tcb.counters["bad_segments"] += 1
    else:
        tcb.synchronize(segment, now)
        if flags & ACK:
            tcb.establish(segment, tcb.receiver.irs, segment.window, now)
            tcb.receiver.ack_now = True
        else:
            tcb.state = State.SYN_RECEIVED  # simultaneous open
            tcb.syn_due = True


def _while_deferred(tcb: Tcb, segment: Tcp) -> None:
    """Nothing was sent yet, so only a RST means anything: the peer gave up."""
    if segment.flags & RST and tcb.receiver.unwrap(segment.sequence) == tcb.receiver.nxt:
        tcb.end(errno.ECONNRESET)


def _in_other_states(tcb: Tcb, segment: Tcp, now: int) -> None:
    """RFC 9293 3.10.7.4."""
    flags = segment.flags
    sequence = tcb.receiver.unwrap(segment.sequence)
    if tcb.state is State.SYN_RECEIVED and flags & SYN and sequence == tcb.receiver.irs:
        if not flags & ACK:
            tcb.syn_due = True  # the peer sent its SYN again, so our SYN-ACK was lost
            return
        flags &= ~SYN  # simultaneous open, figure 7 line 6: what lies before the window is trimmed
        sequence += 1
    if (
        _sequence_check(tcb, segment, sequence, flags, now)
        and _rst_check(tcb, sequence, flags, now)
        and _syn_check(tcb, flags, now)
        and _ack_check(tcb, segment, sequence, flags, now)
    ):
        if tcb.state in RECEIVES:
            _urgent_text_and_fin(tcb, segment, sequence, flags, now)
        tcb.pass_fin(now)


def _sequence_check(tcb: Tcb, segment: Tcp, sequence: int, flags: int, now: int) -> bool:
    """First check, after PAWS (RFC 7323 5.3)."""
    receiver = tcb.receiver
    stamps = segment.options.timestamps
    stamped = tcb.agreement.timestamps and not flags & RST
    if stamped and stamps is None:
        tcb.counters["missing_timestamps"] += 1  # RFC 7323 3.2: dropped in silence
        return False
    if stamped and stamps is not None and receiver.timestamp_is_old(stamps[0], now):
        tcb.counters["paws_rejected"] += 1
        _answer_unacceptable(tcb, segment, now)
        return False
    length = len(segment.payload) + (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
    if not receiver.acceptable(sequence, length):
        tcb.counters["unacceptable"] += 1
        if tcb.state is State.TIME_WAIT and flags & FIN and sequence + length == receiver.nxt:
            tcb.start_time_wait(now)  # eighth check: a retransmitted FIN starts the 2 MSL again
        if not flags & RST:
            _answer_unacceptable(tcb, segment, now)
        return False
    tcb.keepalive.heard(now)
    if stamped and stamps is not None:
        receiver.remember_timestamp(stamps[0], sequence, now)
    return True


def _answer_unacceptable(tcb: Tcb, segment: Tcp, now: int) -> None:
    """An ACK says what was expected; one for a segment without text is throttled, lest two peers keep answering."""
    if segment.payload or segment.flags & FIN:
        tcb.receiver.ack_now = True
    else:
        tcb.answer("unacceptable_answered", now)


def _rst_check(tcb: Tcb, sequence: int, flags: int, now: int) -> bool:
    """Second check (RFC 5961 3.2): only a RST with exactly the next number is believed."""
    if not flags & RST:
        return True
    if sequence != tcb.receiver.nxt:
        tcb.answer("challenge_acks", now)
    elif tcb.state in RESET_IS_NO_ERROR:
        tcb.end(0)
    else:
        tcb.end(errno.ECONNREFUSED if tcb.active and tcb.state is State.SYN_RECEIVED else errno.ECONNRESET)
    return False


def _syn_check(tcb: Tcb, flags: int, now: int) -> bool:
    """Fourth check (RFC 5961 4.2); the third is about security compartments, which are not done."""
    if flags & SYN:
        tcb.answer("challenge_acks", now)
        return False
    return True


def _ack_check(tcb: Tcb, segment: Tcp, sequence: int, flags: int, now: int) -> bool:
    """Fifth check (RFC 5961 5.2 for the range)."""
    if not flags & ACK:
        tcb.counters["bad_segments"] += 1
        return False
    sender = tcb.sender
    number = sender.unwrap(segment.acknowledgment)
    # The window of a SYN is never scaled (RFC 7323 2.2).
    window = segment.window if segment.flags & SYN else segment.window << tcb.agreement.send_shift
    if tcb.state is State.SYN_RECEIVED:
        if number != sender.nxt:
            tcb.counters["bad_acks"] += 1
            tcb.reject(segment)
            return False
        tcb.establish(segment, sequence, window, now)
        return True
    if not sender.una - sender.max_wnd <= number <= sender.max:
        tcb.counters["bad_acks"] += 1
        tcb.answer("challenge_acks", now)
        return False
    if number >= sender.una:
        bare = not segment.payload and not flags & FIN
        sender.acknowledge(
            number,
            segment.options.sack,
            tcb.round_trip(segment.options.timestamps, now),
            now,
            duplicate=bare and window == sender.wnd,
        )
        sender.set_window(sequence, number, window)
    if sender.fin_acknowledged and tcb.state in _AFTER_FIN_ACKNOWLEDGED:
        tcb.enter(_AFTER_FIN_ACKNOWLEDGED[tcb.state], now)
    return True


def _urgent_text_and_fin(tcb: Tcb, segment: Tcp, sequence: int, flags: int, now: int) -> None:
    """Sixth and seventh check, and the first half of the eighth; the other is `Tcb.pass_fin`."""
    receiver = tcb.receiver
    if flags & URG and segment.urgent_pointer:
        receiver.urgent_until(sequence + segment.urgent_pointer)
    if segment.payload and receiver.text(sequence, segment.payload, now):
        tcb.outbox.append(tcb.acknowledgment(now))  # RFC 5681 4.2: one duplicate ACK for each such segment
    if flags & FIN:
        receiver.finish_at(sequence + len(segment.payload))
        receiver.ack_now = True
