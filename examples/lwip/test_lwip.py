"""A downstream suite: what lwIP's users would want to know, in virtual time."""

from hypothesis import given, settings

from pytest_netemu.asserts import assert_hostfwd, assert_ping
from pytest_netemu.strategies import fault_schedules


def lwip(network, netdev):
    """The guest of this example with its address."""
    from conftest import make

    guest = make(network, netdev=netdev)
    guest.configure("10.0.2.15", 24, "10.0.2.2")
    return guest


def test_ping_and_forward(netemu):
    user = netemu.netdev("user,hostfwd=tcp:127.0.0.1:0-:80")
    guest = lwip(netemu, user)
    assert_ping(guest, "10.0.2.2")
    assert_hostfwd(user.forwards[0], guest)


@settings(deadline=None, max_examples=25)
@given(faults=fault_schedules(max_frames=30))
def test_a_stream_survives_a_bad_cable(netemu_factory, faults):
    with netemu_factory() as network:
        guest = lwip(network, network.netdev("user"))
        network.links[0].set_faults(forward=faults)
        with network.host.tcp_listen("127.0.0.1", 80) as listener:
            stream = guest.tcp_connect("10.0.2.2", 80, timeout=120)
            peer = listener.accept(timeout=120)
            stream.send(bytes(20_000), timeout=600)
            assert peer.recv_exactly(20_000, timeout=600) == bytes(20_000)
