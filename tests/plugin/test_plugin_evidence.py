"""What a test leaves behind: sections, captures, the mapping on the report; and what it must not leave behind."""

from __future__ import annotations

import json
import re

import hypothesis
import pytest

import netemu.guest.inproc
import netemu.network
from pytest_netemu import fixtures
from pytest_netemu.evidence import slug

LOADED = (hypothesis, netemu)  # here, so that not each of the inner runs, which forget what they import, loads them again

FAILING = """
    import pytest

    @pytest.mark.netemu_clause("rfc2131", "4.3.1", level="SHOULD", id="rfc2131/4.3.1/07")
    def test_fails(netemu_guest):
        netemu_guest.dhcp4()
        assert False

    def test_passes(netemu_guest):
        netemu_guest.dhcp4()
"""

KEEPING = """
    import json, pathlib

    def pytest_runtest_logreport(report):
        if hasattr(report, "netemu"):
            with pathlib.Path("seen.jsonl").open("a") as file:
                file.write(json.dumps([report.nodeid, report.when, report.outcome, report.netemu]) + chr(10))
"""


def seen(pytester):
    """Evidence by test name and phase, as the controller got it."""
    lines = (pytester.path / "seen.jsonl").read_text().splitlines()
    return {(nodeid.partition("::")[2].partition("[")[0], when): found for nodeid, when, _, found in map(json.loads, lines)}


class TestSections:
    @pytest.fixture
    def output(self, pytester):
        pytester.makepyfile(FAILING)
        result = pytester.runpytest("--netemu-seed=5")
        result.assert_outcomes(passed=1, failed=1)
        return result

    def test_a_failure_shows_the_frames_the_counters_and_the_way_back(self, output):
        output.stdout.fnmatch_lines(
            [
                "*- netemu frames -*",
                "frames 1 to * of *, milliseconds from 0.000000 s",
                "*guest0*netdev0*",
                "*|------*>|*DHCP DISCOVER*",
                "*|<------*|*DHCP OFFER*",
                "* frames kept; SHA-256 *",
                "*- netemu counters -*",
                "netdev0: arp-received *",
                "*- netemu replay -*",
                "pytest *::test_fails[[]netemu-inproc]* --netemu-guest=inproc --netemu-backend=netemu --netemu-seed=5",
                "capture: *frames.pcapng",
            ]
        )

    def test_the_way_back_works(self, pytester, output):
        command = next(line for line in output.outlines if line.startswith("pytest "))
        again = pytester.runpytest(*[word.strip("'") for word in command.split()[1:]])
        again.assert_outcomes(failed=1)

    def test_the_way_back_starts_where_pytest_was_started(self, pytester, monkeypatch):
        below = pytester.mkdir("below")
        (below / "test_it.py").write_text("def test_fails(netemu_guest): assert False")
        pytester.makeini("[pytest]")
        monkeypatch.chdir(below)
        output = pytester.runpytest("test_it.py").outlines
        assert "pytest 'test_it.py::test_fails[netemu-inproc]' --netemu-guest=inproc --netemu-backend=netemu" in output

    def test_dropped_frames_are_named(self, pytester):
        pytester.makepyfile(
            """
            def test_cut(netemu_guest, netemu_link):
                netemu_link.set_link(False)
                netemu_guest.send_frame(bytes(60))
                netemu_guest.dhcp4(timeout=1)
            """
        )
        pytester.runpytest().stdout.re_match_lines([r"port guest0: dropped-link-down \d+"])


class TestCaptures:
    @pytest.mark.parametrize(
        ("arguments", "tests"),
        [((), ["fails"]), (("--netemu-capture=always",), ["fails", "passes"]), (("--netemu-capture=never",), [])],
    )
    def test_are_written_when_asked(self, pytester, arguments, tests):
        pytester.makepyfile(FAILING)
        pytester.runpytest("-o", "netemu_out=out", *arguments).assert_outcomes(passed=1, failed=1)
        folders = sorted(path.parent.name for path in (pytester.path / "out").glob("*/frames.pcapng"))
        assert [re.search(r"test-(\w+)-netemu", folder)[1] for folder in folders] == tests

    def test_one_a_network(self, pytester):
        pytester.makepyfile(
            """
            def test_two(netemu_factory):
                for _ in range(2):
                    network = netemu_factory()
                    network.guest(netdev=network.netdev()).dhcp4()
                assert False
            """
        )
        pytester.runpytest("-o", "netemu_out=out")
        assert sorted(path.name for path in (pytester.path / "out").glob("*/*")) == ["frames-2.pcapng", "frames.pcapng"]

    def test_names_differ_where_node_ids_do(self):
        ids = ["a.py::t[x/y]", "a.py::t[x-y]", "a.py::t[x y]", "b" * 300, "c" + "b" * 300]
        names = [slug(each) for each in ids]
        assert len(set(names)) == len(ids)
        assert all(re.fullmatch(r"[A-Za-z0-9.-]{1,100}", name) for name in names)


class TestReports:
    def test_the_mapping(self, pytester):
        pytester.makeconftest(KEEPING)
        pytester.makepyfile(FAILING)
        pytester.runpytest("-o", "netemu_out=out")
        found = seen(pytester)["test_fails", "call"]
        assert found["cell"] == {"guest": "inproc", "backend": "netemu"}
        assert found["clauses"] == [{"document": "rfc2131", "section": "4.3.1", "level": "SHOULD", "id": "rfc2131/4.3.1/07"}]
        assert (found["clock"], found["seed"], found["determinism"], found["deviation"]) == ("virtual", 0, "exact", None)
        (network,) = found["networks"]
        assert network["frames"] > 4
        assert network["overflowed"] == 0
        assert re.fullmatch(r"[0-9a-f]{64}", network["digest"])
        assert (pytester.path / "out" / network["capture"]).exists()
        assert "DHCP ACK" in found["ladder"]
        assert found["replay"].startswith("pytest ")
        assert seen(pytester)["test_passes", "call"]["networks"][0] | {"capture": None} == network | {"capture": None}

    def test_it_crosses_from_xdists_workers_unchanged(self, pytester):
        pytester.makeconftest(KEEPING)
        pytester.makepyfile(FAILING)
        pytester.runpytest("-o", "netemu_out=out")
        alone = seen(pytester)
        (pytester.path / "seen.jsonl").unlink()
        result = pytester.runpytest_subprocess("-n2", "-p", "no:hypothesispytest", "-o", "netemu_out=out")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*- netemu frames -*"])
        assert seen(pytester) == alone

    def test_what_parts_are_gone_by_teardown_is_still_told(self, pytester):
        pytester.makeconftest(KEEPING)
        pytester.makepyfile(FAILING)
        pytester.runpytest()
        found = seen(pytester)
        assert found["test_passes", "teardown"] == found["test_passes", "call"]

    def test_real_time_is_not_exact(self, pytester):
        pytester.makeconftest(KEEPING)
        pytester.makepyfile(
            """
            import pytest
            from netemu.io.oshost import OsHost

            @pytest.mark.netemu_clock("real")
            def test_wall(netemu_guest): netemu_guest.dhcp4()

            def test_ordered(netemu_factory): netemu_factory(host=OsHost)
            """
        )
        pytester.runpytest().assert_outcomes(passed=2)
        assert seen(pytester)["test_wall", "call"]["determinism"] == "wall"
        assert seen(pytester)["test_ordered", "call"]["determinism"] == "ordered"

    def test_other_peoples_tests_are_left_alone(self, pytester):
        pytester.makeconftest(KEEPING)
        pytester.makepyfile("def test_it(): assert False")
        assert "netemu frames" not in pytester.runpytest().stdout.str()
        assert not (pytester.path / "seen.jsonl").exists()


class TestLeaks:
    @pytest.mark.parametrize(
        ("leak", "named"),
        [
            ("kept = open('/dev/null')", r"descriptor \d+ \(/dev/null\)"),
            ("kept = subprocess.Popen(['sleep', '30'])", r"child process \d+ \(sleep 30\)"),
            ("kept = threading.Timer(10, print); kept.name = 'idler'; kept.start()", "thread idler"),
            ("kept = os.open('/proc/self/ns/net', os.O_RDONLY)", r"network namespace held by descriptor \d+ \(net:\[\d+\]\)"),
        ],
        ids=["descriptor", "process", "thread", "namespace"],
    )
    def test_a_leak_is_an_error_that_names_it(self, pytester, monkeypatch, leak, named):
        monkeypatch.setattr("pytest_netemu.leaks._GRACE", 0.1)
        pytester.makepyfile(
            f"""
            import os, subprocess, threading

            kept = None

            def test_it(netemu):
                global kept
                {leak}

            def test_next(netemu):
                pass

            def test_tidy_up():
                if hasattr(kept, "cancel"):
                    kept.cancel()
                elif hasattr(kept, "kill"):
                    kept.kill(), kept.wait()
                elif isinstance(kept, int):
                    os.close(kept)
                elif hasattr(kept, "close"):
                    kept.close()
            """
        )
        result = pytester.runpytest()
        result.assert_outcomes(passed=3, errors=1)
        summary = "this test's networks are closed, and these are still here:"
        result.stdout.fnmatch_lines(["*ERROR at teardown of test_it*", summary])
        result.stdout.re_match_lines([rf"  {named}"])

    def test_networks_that_nobody_closed_are_closed(self, pytester):
        pytester.makepyfile(
            """
            import threading

            def test_it(netemu_factory):
                netemu_factory("real").guest()
                assert "netemu-loop" in {thread.name for thread in threading.enumerate()}

            def test_after():
                assert "netemu-loop" not in {thread.name for thread in threading.enumerate()}
            """
        )
        pytester.runpytest().assert_outcomes(passed=2)

    def test_an_exception_in_closing_is_reported(self, pytester):
        pytester.makepyfile(
            """
            def test_it(netemu):
                class Broken:
                    def close(self): raise RuntimeError("it would not close")

                netemu.add_backend(Broken())
            """
        )
        result = pytester.runpytest()
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["*RuntimeError: it would not close*"])


class TestFixtures:
    def test_each_gives_what_it_says(self, pytester):
        pytester.makepyfile(
            """
            import pytest_netemu

            def test_cell(netemu_guest, netemu_backend, netemu_link, netemu_host, netemu_nic):
                assert isinstance(netemu_link, pytest_netemu.Link)
                assert (netemu_link.a, netemu_link.b) == (netemu_guest.port, netemu_backend.port)
                assert netemu_host is netemu_backend.host
                assert netemu_nic == "direct"

            def test_network(netemu, netemu_capture, netemu_clock, netemu_host):
                assert isinstance(netemu, pytest_netemu.Network)
                assert isinstance(netemu_capture, pytest_netemu.FrameLog)
                assert netemu_host is netemu.host
                before = netemu_clock.now()
                netemu.run_for(2)
                assert netemu_clock.now() - before == 2_000_000_000

            def test_slirp(netemu_slirp, netemu_inproc):
                assert str(netemu_slirp.net) == "10.0.2.0/24"
                assert str(netemu_inproc(netdev=netemu_slirp).dhcp4().router) == "10.0.2.2"

            def test_hub(netemu_hub, netemu_slirp, netemu_inproc, netemu):
                netemu.link(netemu_hub().port(), netemu_slirp.port)
                guests = [netemu_inproc(netdev=netemu_hub()) for _ in range(2)]
                assert len({guest.dhcp4().address for guest in guests}) == 2
                assert netemu_hub(1) is not netemu_hub(0)

            def test_factories(netemu_guest_factory, netemu_backend_factory):
                backend = netemu_backend_factory(net="10.9.0.0/24", restrict="on", hostfwd=["tcp::0-:80", "udp::0-:53"])
                assert len(backend.forwards) == 2
                assert str(netemu_guest_factory(netdev=backend).dhcp4().address) == "10.9.0.15"

            def test_platform(netemu_platform):
                assert {"root", "tun", "kvm", "ping_group_range"} <= set(netemu_platform)
                assert {"linux.uml", "busybox", "tshark", "libslirp"} <= set(netemu_platform)
                assert all(finding.words for finding in netemu_platform.values())
            """
        )
        pytester.runpytest().assert_outcomes(passed=6)

    def test_each_is_documented(self, pytester):
        text = pytester.runpytest("--fixtures", "-v").stdout.str()
        listed = re.findall(r"^(netemu\w*)[^\n]*\n    (\S[^\n]*)", text, re.MULTILINE)
        assert sorted(name for name, _ in listed) == sorted(fixtures.__all__)
        assert all(words != "no docstring available" for _, words in listed)

    def test_a_guest_in_real_time_makes_the_network_real(self, pytester):
        pytester.makepyfile(
            """
            def test_it(netemu_netns, netemu):
                assert netemu.clock == "real"
                assert netemu_netns().kind == "netns"
            """
        )
        result = pytester.runpytest("-rs")
        if "skipped" in result.parseoutcomes():
            result.stdout.fnmatch_lines(["*platform: guest netns: *"])
        else:
            result.assert_outcomes(passed=1)
