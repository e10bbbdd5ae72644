"""Options, ini values, marks and hooks: what they do, and what they say when they are given wrongly."""

from __future__ import annotations

import hypothesis
import pytest

import netemu.guest.inproc
import netemu.network

LOADED = (hypothesis, netemu)  # here, so that not each of the inner runs, which forget what they import, loads them again

EMPTY = "def test_nothing(): pass"
CELL = "def test_cell(netemu_backend, netemu_guest): assert netemu_guest.address is None"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--netemu-guest=toaster"], "'toaster' was given; give one or more of those registered: inproc, netns, qemu, uml"),
        (["--netemu-backend=netemu,toaster"], "'toaster' was given; give one or more of those registered: libslirp, netemu"),
        (["--netemu-nic=e1001"], "'e1001' was given; give one or more of those registered: direct, e1000"),
        (["--netemu-guest=,"], "'' was given"),
        (["--netemu-capture=sometimes"], "'sometimes' was given; give one of always, on-fail, never"),
        (["--netemu-seed=x"], "'x' was given; give a number, zero or more"),
        (["--netemu-seed=-1"], "'-1' was given; give a number, zero or more"),
        (["-o", "netemu_clock=atomic"], "ini netemu_clock: 'atomic' was given; give one of virtual, real"),
        (["--netemu-guest=mine=exec:./stack {mac}"], "command ./stack '{mac}': it has no wire; give one of {fd}, {dgram}, "),
        (
            ["--netemu-backend=mine=exec:address=1 ./net {fd}"],
            "address=1: no such setting stands before a program here; there are wait",
        ),
        (["-o", "netemu_guests=toaster"], "--netemu-guest (or ini netemu_guests): 'toaster' was given"),
    ],
)
def test_a_wrong_option_is_a_usage_error(pytester, arguments, words):
    pytester.makepyfile(EMPTY)
    result = pytester.runpytest(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{words.replace('[', '[[]')}*"])


def test_an_option_overrides_its_ini_value(pytester):
    pytester.makeini("[pytest]\nnetemu_seed = 7\nnetemu_backends = libslirp\n")
    pytester.makepyfile("def test_seed(netemu): print('seed', netemu.seed)")
    header = "netemu: *, virtual clock, seed 7, guests inproc, backends libslirp, *"
    pytester.runpytest("-s").stdout.fnmatch_lines([header, "*seed 7*"])
    pytester.runpytest("-s", "--netemu-seed=9", "--netemu-backend=netemu").stdout.fnmatch_lines(["*seed 9, *backends netemu,*"])


def test_the_help_is_in_sentences(pytester):
    text = pytester.runpytest("--help").stdout.str()
    group = text.split("netemu: guests, backends and evidence:")[1].split("\n\n")[0]
    assert group.count("--netemu-") == 7
    entries = " ".join(group.split()).split("--netemu-")[1:]
    assert all(entry.rstrip().endswith(".") for entry in entries)


class TestMatrix:
    def ids(self, pytester, *arguments):
        pytester.makepyfile(CELL)
        result = pytester.runpytest("--collect-only", "-q", *arguments)
        return [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line]

    def test_the_default_is_one_cell(self, pytester):
        assert self.ids(pytester) == ["netemu-inproc"]

    def test_every_backend_meets_every_guest_in_sorted_order(self, pytester):
        cells = ["libslirp-inproc", "libslirp-netns", "netemu-inproc", "netemu-netns"]
        options = ["--netemu-guest=netns", "--netemu-guest=inproc", "--netemu-backend=netemu,libslirp"]
        assert self.ids(pytester, *options) == cells

    def test_a_factory_alone_meets_every_backend_and_guest(self, pytester):
        pytester.makeconftest(
            """
            def pytest_netemu_register_backends(registry):
                registry.register("other", lambda network: network.netdev("user"), capabilities={"arp", "virtual-clock"})
            """
        )
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.netemu_requires("dhcp4")
            def test_guests(netemu_guest_factory): print("guest", netemu_guest_factory().kind)

            @pytest.mark.netemu_requires("arp")
            def test_backends(netemu_backend_factory): print("backend", netemu_backend_factory().kind)
            """
        )
        ran = pytester.runpytest("-s", "-v", "--netemu-guest=inproc", "--netemu-backend=netemu,other")
        ran.assert_outcomes(passed=3)
        ran.stdout.fnmatch_lines(["*test_guests[[]inproc]*", "*test_backends[[]netemu]*", "*test_backends[[]other]*"])

    def test_names_given_twice_count_once(self, pytester):
        assert self.ids(pytester, "--netemu-guest=inproc,inproc") == ["netemu-inproc"]

    def test_a_test_may_choose_for_itself(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("netemu_guest", ["inproc"], indirect=True)
            def test_cell(netemu_guest): assert netemu_guest.kind == "inproc"
            """
        )
        result = pytester.runpytest("--netemu-guest=netns", "-v")
        result.stdout.fnmatch_lines(["*test_cell[[]*inproc*PASSED*"])

    MARKED = """
        import pytest

        @pytest.mark.netemu_matrix(backends=["netemu", "libslirp"], guests="inproc")
        def test_cell(netemu_backend, netemu_guest): pass
    """

    @pytest.mark.parametrize(
        ("arguments", "ids"),
        [
            ([], ["libslirp-inproc", "netemu-inproc"]),
            (["-o", "netemu_guests=netns"], ["libslirp-inproc", "netemu-inproc"]),  # the mark is nearer than the ini value
            (["--netemu-backend=netemu,passt"], ["netemu-inproc"]),  # and a shard runs its own cells only
            (["--netemu-guest=netns"], []),
        ],
    )
    def test_a_mark_names_the_cells(self, pytester, arguments, ids):
        pytester.makepyfile(self.MARKED)
        result = pytester.runpytest("--collect-only", "-q", *arguments)
        assert [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line] == ids

    def test_it_is_the_same_under_xdist(self, pytester):
        pytester.makepyfile(CELL)
        arguments = ["--netemu-backend=netemu", "--netemu-guest=inproc", "-v"]
        result = pytester.runpytest_subprocess("-n2", "-p", "no:hypothesispytest", *arguments)
        result.assert_outcomes(passed=1)
        result.stdout.fnmatch_lines(["*PASSED*test_cell[[]netemu-inproc]*"])


class TestMarks:
    @pytest.mark.parametrize(
        ("mark", "words"),
        [
            ('netemu_clock("atomic")', "clock 'atomic' was given; give one of virtual, real"),
            ("netemu_clock()", "missing 1 required positional argument*it is netemu_clock(kind)"),
            ('netemu_clause("rfc2131")', "missing 1 required positional argument: 'section'"),
            ('netemu_clause("rfc2131", "4", level="PERHAPS")', "level 'PERHAPS' was given; give one of MUST, SHOULD, *"),
            ('netemu_clause("rfc2131", 4)', "section 4: a text such as 'rfc2131' or '4.3.1' is needed"),
            ('netemu_requires("telepathy")', "capability 'telepathy' was given; give one of arp, *"),
            ('netemu_known_deviation("netemu")', "missing 1 required positional argument: 'reason'"),
            ('netemu_requires("dhcp4")', "*'dhcp4') is about a guest, and this test has none in its cell; let it use netemu_guest"),
        ],
    )
    def test_a_mark_given_wrongly_is_an_error_of_its_file(self, pytester, mark, words):
        pytester.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass")
        result = pytester.runpytest()
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*ERROR collecting *", f"*::test_it: @pytest.mark.netemu_*{words}*"])

    def test_a_mark_given_wrongly_to_a_parameter_is_a_usage_error(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.netemu_clock("atomic"))])
            def test_it(x): pass
            """
        )
        result = pytester.runpytest()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["ERROR: *::test_it[[]1]: @pytest.mark.netemu_clock: clock 'atomic' was given*"])

    def test_a_cell_that_nobody_registered_is_an_error_of_its_file(self, pytester):
        pytester.makepyfile("import pytest\n@pytest.mark.netemu_matrix(guests='toaster')\ndef test_it(netemu_guest): pass")
        result = pytester.runpytest()
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*netemu_matrix(guests=...): 'toaster' is not registered; give one or more of inproc,*"])

    def test_a_mark_given_wrongly_is_seen_under_xdist(self, pytester):
        pytester.makepyfile("import pytest\n@pytest.mark.netemu_clock('atomic')\ndef test_it(): pass")
        result = pytester.runpytest_subprocess("-n1", "-p", "no:hypothesispytest")
        result.stdout.fnmatch_lines(["*ERROR collecting *", "*::test_it: @pytest.mark.netemu_clock: clock 'atomic' was given*"])

    def test_marks_are_documented(self, pytester):
        text = pytester.runpytest("--markers").stdout.str()
        for mark in ("clock(kind)", "clause(document, section, ", "requires(*capabilities)", "known_deviation(implementation, "):
            assert f"@pytest.mark.netemu_{mark}" in text

    def test_the_clock(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            def test_default(netemu): assert netemu.clock == "virtual"

            @pytest.mark.netemu_clock("real")
            def test_real(netemu, netemu_factory):
                assert netemu.clock == "real"
                assert netemu_factory().clock == "real"
                assert netemu_factory("virtual").clock == "virtual"
            """
        )
        pytester.runpytest().assert_outcomes(passed=2)

    def test_a_clause_selects(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.netemu_clause("rfc2131", "4.3.1", id="rfc2131/4.3.1/07")
            def test_a(): pass
            @pytest.mark.netemu_clause("rfc2131", "4.31")
            def test_b(): pass
            @pytest.mark.netemu_clause("rfc826", "1")
            @pytest.mark.netemu_clause("rfc1122", "2")
            def test_c(): pass
            def test_d(): pass
            """
        )
        chosen = {"rfc2131": 2, "rfc2131/4.3": 1, "rfc2131/4.3.1/07": 1, "rfc2131/4.3.1/0": 0, "rfc826,rfc2131/4.31": 2}
        for clause, passed in chosen.items():
            pytester.runpytest(f"--netemu-clause={clause}").assert_outcomes(passed=passed, deselected=4 - passed)

    def test_a_known_deviation_is_strict_and_of_one_implementation(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.netemu_known_deviation("netemu", "is too good", issue="#12")
            def test_holds(netemu_backend): pass

            @pytest.mark.netemu_known_deviation("netemu", "is too good", issue="#12")
            def test_fails(netemu_backend): assert False

            @pytest.mark.netemu_known_deviation("libslirp", "is somebody else")
            def test_other(netemu_backend): pass
            """
        )
        result = pytester.runpytest("-rx")
        result.assert_outcomes(failed=1, xfailed=1, passed=1)
        result.stdout.fnmatch_lines(["*XPASS(strict)*known deviation of netemu: is too good (#12)*"])

    def test_what_a_part_lacks_is_unsupported(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.netemu_requires("run")
            def test_run(netemu_guest): pass

            @pytest.mark.netemu_requires("ping", "icmp.echo")
            def test_ping(netemu_guest): assert netemu_guest.dhcp4()
            """
        )
        result = pytester.runpytest("-rs")
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["*unsupported: guest inproc lacks run: *runs shell commands*"])

    def test_a_virtual_clock_that_was_asked_for_is_not_made_real(self, pytester):
        pytester.makepyfile(
            """
            import pytest

            @pytest.mark.netemu_clock("virtual")
            def test_it(netemu_guest): pass
            """
        )
        pytester.runpytest("--netemu-guest=netns", "-rs").stdout.fnmatch_lines(["*unsupported: guest netns lacks virtual-clock*"])


class TestHooks:
    def test_a_guest_of_ones_own(self, pytester):
        pytester.makeconftest(
            """
            def pytest_netemu_register_guests(registry):
                def make(network, **options):
                    guest = network.guest(**options)
                    guest.mine = True
                    return guest

                registry.register("mine", make, capabilities={"ping", "dhcp4"})
            """
        )
        pytester.makepyfile("def test_it(netemu, netemu_guest): assert netemu_guest.mine and netemu.clock == 'real'")
        result = pytester.runpytest("--netemu-guest=mine", "-v")
        result.stdout.fnmatch_lines(["*test_it[[]netemu-mine]*PASSED*"])

    def test_a_backend_of_ones_own(self, pytester):
        pytester.makeconftest(
            """
            def pytest_netemu_register_backends(registry):
                registry.register(
                    "mine", lambda network, **options: network.netdev("user,net=10.7.0.0/24"), capabilities={"arp", "virtual-clock"}
                )
            """
        )
        pytester.makepyfile("def test_it(netemu_guest): assert str(netemu_guest.dhcp4().address) == '10.7.0.15'")
        result = pytester.runpytest("--netemu-backend=mine,netemu", "-v")
        result.assert_outcomes(passed=1, failed=1)
        result.stdout.fnmatch_lines(["*test_it[[]mine-inproc]*PASSED*"])

    def test_a_probe_of_ones_own_runs_once_when_asked(self, pytester, monkeypatch):
        monkeypatch.delenv("CI", raising=False)  # where a missing part would fail the inner test
        pytester.makeconftest(
            """
            from netemu.platform import Finding

            def pytest_netemu_probe_platform(config):
                def probe():
                    print("probing")
                    return Finding(False, "no moon tonight", "wait a week")

                return {"moon": probe}
            """
        )
        pytester.makepyfile(
            """
            def test_a(netemu_platform): netemu_platform.require("moon")
            def test_b(netemu_platform): assert netemu_platform["moon"].words == "no moon tonight"
            """
        )
        result = pytester.runpytest("-rs", "-s")
        result.assert_outcomes(passed=1, skipped=1)
        result.stdout.fnmatch_lines(["*platform: moon: no moon tonight; mend it with: wait a week"])
        assert result.stdout.str().count("probing") == 1

    def test_an_arm_that_there_is_not_is_a_usage_error(self, pytester):
        pytester.makeconftest(
            "def pytest_netemu_register_guests(registry): registry.register('x', None, capabilities=(), arm='leg')"
        )
        ran = pytester.runpytest_inprocess()
        ran.stderr.fnmatch_lines("ERROR: guest 'x' has arm 'leg'; give one of in-process, kernel, oracle, replay")

    def test_a_name_that_is_taken_is_a_usage_error(self, pytester):
        pytester.makeconftest("def pytest_netemu_register_guests(registry): registry.register('inproc', None, capabilities=())")
        result = pytester.runpytest()
        result.stderr.fnmatch_lines(["ERROR: guest 'inproc' is registered already; choose another name"])

    @pytest.mark.parametrize(("ci", "outcome"), [("true", "failed"), ("false", "skipped")])
    def test_a_part_that_cannot_run_here(self, pytester, monkeypatch, ci, outcome):
        monkeypatch.setenv("CI", ci)
        pytester.makeconftest(
            """
            def pytest_netemu_register_guests(registry):
                registry.register("mine", None, capabilities=(), probe=lambda: "the hall is closed")
            """
        )
        pytester.makepyfile("def test_it(netemu_guest): pass")
        result = pytester.runpytest("--netemu-guest=mine", "-rsfE")
        counts = result.parseoutcomes()
        assert counts in ({"skipped": 1}, {"errors": 1})
        assert ("skipped" in counts) == (outcome == "skipped")
        result.stdout.fnmatch_lines(["*guest mine: the hall is closed*"])


def test_a_guest_without_the_nic_is_unsupported(pytester):
    pytester.makepyfile("def test_it(netemu_guest, netemu_nic): pass")
    ran = pytester.runpytest("--netemu-nic=e1000,direct", "-rs")
    ran.assert_outcomes(passed=1, skipped=1)
    ran.stdout.fnmatch_lines(["*unsupported: guest inproc lacks nic: it is not one that has the NIC model that a test chooses"])
