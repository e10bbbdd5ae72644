"""HTTP GET from guests: answers as they come, in virtual time, and a server that nobody here wrote (Python's)."""

import functools
import http.server
import threading

import pytest

from netemu import LocalError, Network, PeerError
from netemu.guest.http import http_get
from netemu.io.oshost import OsHost


def answer_of(octets: bytes, url: str = "http://10.0.2.2:8000/a?b=c"):
    asked = []
    with Network() as network:
        guest = network.guest(netdev=network.netdev("user"))
        guest.dhcp4()
        with network.host.tcp_listen("127.0.0.1", 8000) as listener:

            def serve(stream):
                def changed():
                    request = bytearray(stream.available())
                    stream.read_into(0, memoryview(request))
                    if request.endswith(b"\r\n\r\n"):
                        stream.discard(len(request))
                        asked.append(bytes(request))
                        stream.offer(octets)
                        stream.finish()

                stream.on_change = changed
                changed()

            listener.serve(serve)
            return http_get(guest, url), asked


def test_the_answer_and_the_request():
    answer, asked = answer_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Y: z\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert (answer.status, answer.content, answer.fields["x-y"]) == (200, b"abc", "z")
    assert asked == [b"GET /a?b=c HTTP/1.1\r\nHost: 10.0.2.2:8000\r\nConnection: close\r\n\r\n"]


@pytest.mark.parametrize("octets", [b"", b"SSH-2.0\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"])
def test_what_is_no_answer_is_told(octets):
    with pytest.raises(PeerError, match="answered with no HTTP"):
        answer_of(octets)


@pytest.mark.parametrize("url", ["https://10.0.2.2/", "10.0.2.2", "http://10.0.2.2:x/", "http:///file"])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(LocalError, match=r"write http://192\.0\.2\.1:8000/file"):
        answer_of(b"", url)


def test_pythons_server_is_asked(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 400)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments):
            """Nothing: standard error is the test's."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with Network(clock="real", host=OsHost) as network:
                guest = network.guest(netdev=network.netdev("user"))
                guest.dhcp4()
                url = f"http://10.0.2.2:{server.server_port}"
                assert http_get(guest, f"{url}/file").content == bytes(range(256)) * 400
                assert http_get(guest, f"{url}/nothing").status == 404
        finally:
            server.shutdown()
            thread.join()
