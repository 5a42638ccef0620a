"""The rule in DOCKER-USER with real iptables of both kinds: what is marked passes, and all goes away."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import program
from netns_tools.kernel.dockeruser import accepts, ensure, observe, remove
from tests.kernel.isolated import CLONE_NEWNET, ip, isolated, nft

MARK = 0x00400000
VARIANTS = ["nft", "legacy"]
COMMANDS = {4: "iptables", 6: "ip6tables"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}

pytestmark = pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="iptables is not installed")


def own_run() -> None:
    """A /run of our own: iptables has its lock there."""
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=60)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True, timeout=60)


def iptables(variant: str, *lines: str, family: int = 4) -> str:
    """Run lines of iptables; what the last one says."""
    said = ""
    for line in lines:
        command = [f"{COMMANDS[family]}-{variant}", "-w", "10", *line.split()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        said = done.stdout
    return said


def with_docker(variant: str, family: int) -> None:
    """What Docker's iptables backend sets up, as far as it matters here."""
    iptables(
        variant,
        "-P FORWARD DROP",
        "-N DOCKER-USER",
        "-A DOCKER-USER -j RETURN",
        "-A FORWARD -j DOCKER-USER",
        family=family,
    )


def listing(variant: str, family: int = 4) -> list[str]:
    """All rules, as this iptables prints them."""
    return iptables(variant, "-S", family=family).splitlines()


@contextmanager
def neighbours() -> Iterator[tuple[int, int]]:
    """Client and server in namespaces of their own, with us as router; a process in each."""
    with ExitStack() as stack:
        pids = []
        for n in (1, 2):
            command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net"]
            command += ["sh", "-c", "echo ready; exec sleep 100"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            pids.append(process.pid)
            ip(
                f"link add eth{n} type veth peer name eth0 netns {process.pid}",
                f"link set eth{n} up",
                f"address add 10.0.{n}.1/24 dev eth{n}",
                f"address add fd00:{n}::1/64 dev eth{n} nodad",
            )
            lines = [
                "link set eth0 up",
                f"address add 10.0.{n}.2/24 dev eth0",
                f"address add fd00:{n}::2/64 dev eth0 nodad",
                f"route add default via 10.0.{n}.1",
                f"route add default via fd00:{n}::1",
            ]
            subprocess.run(
                ["nsenter", "-t", str(process.pid), "--net", "ip", "-batch", "-"],
                input="\n".join(lines),
                text=True,
                check=True,
                timeout=60,
            )
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            with open(f"/proc/sys/{key}", "w") as file:
                file.write("1")
        yield pids[0], pids[1]


def udp_in(pid: int, family: int) -> socket.socket:
    """A datagram socket of another namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net") as home, open(f"/proc/{pid}/ns/net") as there:
        assert libc.setns(there.fileno(), CLONE_NEWNET) == 0
        try:
            return socket.socket(FAMILIES[family], socket.SOCK_DGRAM)
        finally:
            assert libc.setns(home.fileno(), CLONE_NEWNET) == 0


def until_dropped(count: int, variant: str, family: int) -> None:
    """Wait until the policy of FORWARD has dropped so many packets; neighbours have to be found first."""
    end = time.monotonic() + 20
    while f"DROP {count} packets" not in (said := iptables(variant, "-vnL FORWARD", family=family)):
        assert time.monotonic() < end, said
        time.sleep(0.01)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("variant", VARIANTS)
@isolated
def test_what_is_marked_passes_and_nothing_else(variant: str, family: int) -> None:
    own_run()
    with_docker(variant, family)
    nft(f"""table inet t {{ chain c {{ type filter hook prerouting priority -105;
        udp dport 80 ct mark set ct mark or {MARK}
    }}; }}""")
    host = "10.0.2.2" if family == 4 else "fd00:2::2"
    with neighbours() as (client, server), udp_in(server, family) as good, udp_in(server, family) as bad:
        good.bind((host, 80))
        bad.bind((host, 81))
        good.settimeout(10)
        with udp_in(client, family) as sender:
            sender.settimeout(10)

            def send() -> None:
                iptables(variant, "-Z FORWARD", family=family)
                sender.sendto(b"unmarked", (host, 81))
                sender.sendto(b"marked", (host, 80))

            send()
            until_dropped(2, variant, family)  # else there is nothing to prove
            assert ensure(MARK)
            send()
            data, source = good.recvfrom(100)
            assert data == b"marked"
            good.sendto(b"answer", source)
            assert sender.recv(100) == b"answer"
            until_dropped(1, variant, family)
            remove()
            send()
            until_dropped(2, variant, family)
            for one in (good, bad):
                one.setblocking(False)
                with pytest.raises(BlockingIOError):
                    one.recv(100)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("variant", VARIANTS)
@isolated
def test_one_rule_and_it_goes_without_a_trace(variant: str, family: int) -> None:
    own_run()
    with_docker(variant, family)
    iptables(
        variant, "-I DOCKER-USER -s %s -j DROP" % ("1.2.3.4" if family == 4 else "fd00::4"), family=family
    )
    before = listing(variant, family)
    (said,) = ensure(MARK)
    assert said == (
        f"{COMMANDS[family]}-{variant} -w 5 -I DOCKER-USER 2 -m connmark --mark 0x400000/0x400000"
        " -m comment --comment netns-natmap -j ACCEPT"
    )
    during = listing(variant, family)
    (new,) = set(during) - set(before)
    assert len(during) == len(before) + 1
    assert during[during.index(new) + 1] == "-A DOCKER-USER -j RETURN"
    (chain,) = observe()
    assert (chain.family, chain.variant) == (family, variant)
    assert accepts(chain, MARK)
    assert not accepts(chain, 2 * MARK)
    assert ensure(MARK) == []
    assert listing(variant, family) == during
    assert len(remove()) == 1
    assert listing(variant, family) == before
    assert remove() == []


@pytest.mark.parametrize("variant", VARIANTS)
@isolated
def test_rules_that_are_almost_ours(variant: str) -> None:
    """Another mark of ours is replaced; what has no comment of ours stays, even if it does the same."""
    own_run()
    with_docker(variant, 4)
    iptables(variant, "-I DOCKER-USER -m connmark --mark 0x400000/0x400000 -j ACCEPT")
    iptables(variant, "-I DOCKER-USER -m comment --comment netns-natmap2 -j ACCEPT")
    before = listing(variant)
    iptables(
        variant, *["-I DOCKER-USER -m connmark --mark 8 -m comment --comment netns-natmap -j ACCEPT"] * 2
    )
    ensure(MARK)
    assert len(listing(variant)) == len(before) + 1
    assert ensure(MARK) == []
    remove()
    assert listing(variant) == before


@isolated
def test_both_families_and_both_variants() -> None:
    own_run()
    for variant in VARIANTS:
        for family in (4, 6):
            with_docker(variant, family)
    assert len(ensure(MARK)) == 4
    assert ensure(MARK) == []
    assert all(accepts(chain, MARK) for chain in observe())
    assert len(remove()) == 4


@isolated
def test_without_the_chain_nothing_is_made() -> None:
    own_run()
    assert ensure(MARK) == []
    assert remove() == []
    ruleset = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True, timeout=60).stdout
    assert ruleset == b""
    with open("/proc/self/net/ip_tables_names") as file:
        assert file.read() == ""


@pytest.mark.parametrize("variant", VARIANTS)
@isolated
def test_other_chains_of_iptables_are_no_reason(variant: str) -> None:
    own_run()
    iptables(variant, "-N DOCKER-USER-2", "-A FORWARD -j DOCKER-USER-2")
    before = listing(variant)
    assert ensure(MARK) == []
    assert listing(variant) == before


@pytest.mark.parametrize("variant", VARIANTS)
@isolated
def test_docker_makes_its_chain_anew(variant: str) -> None:
    own_run()
    with_docker(variant, 4)
    ensure(MARK)
    iptables(variant, "-F DOCKER-USER", "-A DOCKER-USER -j RETURN")
    (chain,) = observe()
    assert not accepts(chain, MARK)
    assert len(ensure(MARK)) == 1
    (chain,) = observe()
    assert accepts(chain, MARK)


@isolated
def test_a_chain_that_iptables_cannot_read() -> None:
    own_run()
    nft("""table ip filter { chain DOCKER-USER {
        ip saddr { 192.0.2.1, 192.0.2.2 } ct state vmap { established : accept }
    }; }""")
    with pytest.raises(NetnsToolsError, match=r"iptables-nft -w 5 -S DOCKER-USER: .*incompatible") as caught:
        ensure(MARK)
    assert "-S DOCKER-USER" in caught.value.hint


@isolated
def test_without_iptables_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    own_run()
    for variant in VARIANTS:
        with_docker(variant, 4)
    monkeypatch.setattr(program, "_PLACES", ("/nowhere",))
    assert ensure(MARK) == []
    (chain,) = observe()
    assert (chain.variant, chain.program) == ("nft", "")
    assert not accepts(chain, MARK)


@pytest.mark.parametrize("variant", VARIANTS)
@isolated
def test_a_plain_iptables_is_asked_which_one_it_is(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own_run()
    with_docker(variant, 4)
    os.mkdir("/run/sbin")
    os.symlink(f"/usr/sbin/xtables-{variant}-multi", "/run/sbin/iptables")
    monkeypatch.setattr(program, "_PLACES", ("/run/sbin",))
    assert [line.split()[0] for line in ensure(MARK)] == ["iptables"]
    assert sum("netns-natmap" in line for line in listing(variant)) == 1


@isolated
def test_it_waits_for_the_lock_of_another_iptables() -> None:
    """iptables-legacy has one for all, such as the iptables of Docker."""
    own_run()
    with_docker("legacy", 4)
    with open("/run/xtables.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = os.fork()
        if child == 0:
            lock.close()  # it is still held by the other one
            os._exit(0 if len(ensure(MARK)) == 1 else 1)
        waiting = re.compile(rf"-> FLOCK .*:{os.fstat(lock.fileno()).st_ino} ")
        end = time.monotonic() + 30
        while not waiting.search(Path("/proc/locks").read_text()):
            assert time.monotonic() < end, "nobody waits for the lock"
            time.sleep(0.01)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert os.waitpid(child, 0)[1] == 0
