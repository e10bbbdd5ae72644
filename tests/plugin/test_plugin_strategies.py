"""Drawn frames are what they say they are; a failing schedule shrinks to its cause and prints as a test that runs."""

from __future__ import annotations

import re

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

import netemu.guest.inproc
import netemu.network
from netemu.errors import LocalError
from netemu.net.faults import Fault, FaultSchedule
from netemu.wire.describe import dissect, summarize
from pytest_netemu.strategies import fault_schedules, frames, regression_test

LOADED = (hypothesis, netemu)  # here, so that not each of the inner runs, which forget what they import, loads them again

FRAGILE = """
    from hypothesis import given, settings
    from netemu.net.link import Link
    from netemu.net.port import Port
    from pytest_netemu.strategies import fault_schedules, note_regression

    @given(faults=fault_schedules(max_frames=40))
    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    def test_every_frame_arrives(netemu_factory, faults):
        note_regression(test_every_frame_arrives, faults=faults)
        with netemu_factory() as network:
            arrived = []
            sender = Port(network.loop, "sender")
            receiver = Port(network.loop, "receiver", lambda frame, header: arrived.append(frame) or True)
            network.link(sender, receiver).set_faults(forward=faults)
            for number in range(20):
                sender.send(bytes([number]) * 14)
            network.run_for(5)
            assert len(arrived) >= 20
"""


def first(strategy, condition):
    """An example, as drawn: shrinking it would only take time."""
    return find(strategy, condition, settings=settings(phases=[Phase.generate], max_examples=2000))


@given(frames(mutated=False))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whole_frames_are_well_formed(frame):
    assert "malformed" not in dissect(frame), summarize(frame)


@pytest.mark.parametrize("layer", ["arp", "icmpv4", "udp", "dhcpv4", "dns", "tcp", "vlan"])
def test_every_protocol_is_drawn(layer):
    found = first(frames(mutated=False), lambda frame: any(name.startswith(f"{layer}.") for name in dissect(frame)))
    assert "malformed" not in dissect(found)


def test_broken_frames_are_drawn_too():
    assert first(frames(), lambda frame: "malformed" in dissect(frame))
    assert first(frames(), lambda frame: dissect(frame).get("ipv4.fragment_offset", 0) > 0)


@given(st.data(), st.integers(1, 60), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_schedules_keep_to_their_limits_and_print_as_python(data, max_frames, max_faults):
    schedule = data.draw(fault_schedules(max_frames, max_faults))
    numbers = [fault.frame for fault in schedule]
    assert len(schedule) <= max_faults
    assert numbers == sorted(set(numbers))
    assert all(number < max_frames for number in numbers)
    assert eval(repr(schedule), {"Fault": Fault}) == schedule
    FaultSchedule(schedule)


def test_the_simplest_schedule_is_one_early_drop():
    assert find(fault_schedules(), bool) == [Fault(0, "drop")]


@pytest.mark.parametrize("limits", [(0, 1), (1, -1)])
def test_limits_are_sane(limits):
    with pytest.raises(LocalError, match="1 or more frames and 0 or more faults"):
        fault_schedules(*limits)


def test_a_fragile_receiver_shrinks_to_one_fault_and_prints_a_test_that_runs(pytester):
    path = pytester.makepyfile(FRAGILE)
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    source = re.search(r"^-+ netemu regression test -+\n(.*?)^-+ netemu", output, re.MULTILINE | re.DOTALL)[1]
    assert re.search(r"faults=\[Fault\((\d+), 'drop'\)\]", source), source
    pasted = pytester.makepyfile(**{path.stem: path.read_text() + "\n\n" + source})
    again = pytester.runpytest(f"{pasted.name}::test_every_frame_arrives_regression")
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*assert*19*20*"])


def test_only_hypothesis_tests_have_regressions():
    with pytest.raises(LocalError, match="decorate it with @given"):
        regression_test(test_limits_are_sane, faults=[])
