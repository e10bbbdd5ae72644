"""What the in-process path costs in wall time, per operation of a test body."""

import pytest

from netemu import Network


@pytest.fixture
def leased():
    with Network() as network:
        guest = network.guest(netdev=network.netdev("user"))
        guest.dhcp4()
        yield network, guest


def test_ping(benchmark, leased):
    _, guest = leased
    assert benchmark(guest.ping, "10.0.2.2").ok


def test_tcp_connect_exchange_close(benchmark, leased):
    network, guest = leased
    network.host.add_address("192.0.2.1")
    network.host.echo_server("192.0.2.1", 7, "tcp")

    def exchange() -> bytes:
        with guest.tcp_connect("192.0.2.1", 7) as stream:
            stream.send(b"x" * 1000)
            return stream.recv_exactly(1000)

    assert len(benchmark(exchange)) == 1000


def test_tcp_one_megabyte_up(benchmark, leased):
    network, guest = leased
    network.host.add_address("192.0.2.1")
    listener = network.host.tcp_listen("192.0.2.1", 80)
    data = bytes(range(256)) * 4096

    def upload() -> int:
        stream = guest.tcp_connect("192.0.2.1", 80)
        served = listener.accept()
        received = 0
        view = memoryview(data)
        for start in range(0, len(data), 32_768):
            stream.send(view[start : start + 32_768])
            while received < start:
                received += len(served.recv())
        stream.close()
        return received + len(served.recv_all())

    assert benchmark(upload) == len(data)
