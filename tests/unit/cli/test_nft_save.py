"""netns-nft-save, with real namespaces and the real nft: what it writes loads, and it does no harm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_tools.cli import nft_save
from netns_tools.paths import Paths

from .conftest import Machine, Output

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")

RULES = """
table inet t {
    set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1-192.168.1.9 } }
    map ports { type inet_service : verdict; elements = { 22 : accept, 23 : drop } }
    counter hits { packets 5 bytes 600 }
    quota much { over 10 mbytes used 5 kbytes }
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ip saddr @nets counter packets 3 bytes 300 accept comment "iif 7, xt match x"
        tcp dport vmap @ports
        counter name hits
        ip saddr . tcp dport { 192.0.2.1 . 80 } accept
    }
}
"""


class Namespace:
    """A namespace 'demo' below the root of a test machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.rules = machine.conf / "nft-demo.rules"
        self.path = machine.write("run/netns/demo", "")
        subprocess.run(["unshare", f"--net={self.path}", "true"], check=True, timeout=20)

    def inside(self, *words: str, text: str = "") -> str:
        """Run a command inside; what it prints."""
        return subprocess.run(
            ["nsenter", f"--net={self.path}", *words],
            input=text, capture_output=True, text=True, check=True, timeout=30,
        ).stdout  # fmt: skip

    def load(self, rules: str) -> None:
        self.inside("nft", "-f", "-", text=rules)

    def save(self) -> Output:
        return self.machine.run("demo", command=nft_save.command)

    def refused(self, words: str) -> None:
        """A save fails with this message, and leaves every file of the directory as it was."""
        before = _snapshot(self.machine.conf)
        result = self.save()
        assert result.code == 1
        assert words in result.err
        assert "hint: " in result.err
        assert _snapshot(self.machine.conf) == before


def _snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in directory.iterdir()}


@pytest.fixture
def demo(machine: Machine) -> Iterator[Namespace]:
    namespace = Namespace(machine)
    yield namespace
    subprocess.run(["umount", namespace.path], check=True, timeout=20)


def test_saved_rules_restore_the_same_ruleset(demo: Namespace) -> None:
    demo.load(RULES)
    before = demo.inside("nft", "list", "ruleset")
    result = demo.save()
    assert result.code == 0
    assert (
        result.out
        == "Successfully saved nftables ruleset for 'demo' to '/etc/conf.d/netns/nft-demo.rules'.\n"
    )
    for _again in range(2):  # a second restore adds nothing
        demo.inside("nft", "-f", str(demo.rules))
        assert demo.inside("nft", "list", "ruleset") == before


def test_the_file(demo: Namespace) -> None:
    demo.save()
    status = demo.rules.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o644)
    lines = demo.rules.read_text().splitlines()
    assert lines[0] == "flush ruleset"
    assert lines[1].startswith("# Saved 2")
    assert os.listdir(demo.machine.conf) == ["nft-demo.rules"]


def test_elements_keep_their_remaining_time(demo: Namespace) -> None:
    elements = "{ 192.0.2.1 timeout 1h expires 9m }"
    demo.load(f"table ip t {{ set s {{ type ipv4_addr; flags timeout; elements = {elements} }}\n}}\n")
    assert demo.save().code == 0
    demo.load("flush ruleset")
    demo.inside("nft", "-f", str(demo.rules))
    assert "timeout 1h expires 8m59s" in demo.inside("nft", "list", "ruleset")


def test_ten_thousand_elements(demo: Namespace) -> None:
    elements = ",".join(f"10.{i // 200}.{i % 200}.0/25" for i in range(10_000))
    demo.load(f"table ip t {{ set s {{ type ipv4_addr; flags interval; elements = {{ {elements} }}; }}\n}}\n")
    assert demo.save().code == 0
    assert demo.rules.read_text().count("/25") == 10_000


def test_a_device_that_is_gone(demo: Namespace) -> None:
    """Its number would match another device one day."""
    demo.save()
    demo.inside("ip", "link", "add", "v1", "type", "veth", "peer", "name", "v2")
    demo.load('table ip t { chain c { type filter hook input priority 0; iif "v1" accept; }\n}\n')
    assert demo.save().code == 0
    demo.inside("ip", "link", "delete", "v1")
    demo.refused("match a vanished device by its number: iif ")


def test_the_rules_that_block_everything_are_never_saved(demo: Namespace) -> None:
    demo.load(RULES)
    demo.save()
    demo.inside("nft", "-f", f"{Paths().data}/lib/blocked.nft")
    demo.refused("everything in demo is blocked")


def test_tables_of_running_programs_are_left_out(demo: Namespace) -> None:
    """A table with the owner flag lives as long as the nft that made it."""
    program = subprocess.Popen(
        ["nsenter", f"--net={demo.path}", "nft", "-i"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert program.stdin is not None
    try:
        program.stdin.write("add table inet theirs { flags owner; }\nadd table inet mine\n")
        program.stdin.flush()
        for _try in range(100):
            if "theirs" in demo.inside("nft", "list", "tables") and "mine" in demo.inside(
                "nft", "list", "tables"
            ):
                break
        result = demo.save()
    finally:
        program.stdin.close()
        program.wait(timeout=20)
    assert result.code == 0
    assert "table inet theirs belongs to a running program" in result.err
    assert "table inet mine" in demo.rules.read_text()
    assert "theirs" not in demo.rules.read_text()


def test_targets_that_are_refused(demo: Namespace) -> None:
    demo.rules.symlink_to("elsewhere")
    demo.refused("is a symbolic link")
    demo.rules.unlink()
    demo.rules.write_text("x")
    os.chown(demo.rules, 1000, 0)
    demo.refused("belongs to user 1000")
    demo.rules.unlink()
    demo.rules.mkdir()
    demo.refused("is no regular file")
    demo.rules.rmdir()
    demo.machine.conf.chmod(0o777)
    demo.refused("users other than root may write")


def test_a_full_disk_keeps_the_old_file(demo: Namespace) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8k,mode=755", "none", demo.machine.conf], check=True, timeout=20
    )
    try:
        demo.save()
        elements = ",".join(f"10.0.{i // 200}.{i % 200}" for i in range(2_000))
        demo.load(f"table ip t {{ set s {{ type ipv4_addr; elements = {{ {elements} }}; }}\n}}\n")
        demo.refused("No space left on device")
    finally:
        subprocess.run(["umount", demo.machine.conf], check=True, timeout=20)


def test_a_file_that_a_killed_save_left_behind(demo: Namespace) -> None:
    demo.machine.write(".nft-demo.rules.new", "half")
    assert demo.save().code == 0
    assert os.listdir(demo.machine.conf) == ["nft-demo.rules"]


def test_what_nft_cannot_load_again_is_not_saved(demo: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from netns_tools.kernel import nft

    demo.save()
    monkeypatch.setattr(nft, "_head", lambda _name: "flush ruleset\nnonsense\n")
    demo.refused("nft cannot load what it lists for demo: /dev/stdin:2:9-9: Error: syntax error")


def test_a_namespace_that_is_not_there(machine: Machine) -> None:
    result = machine.run("gone", command=nft_save.command)
    assert result.code == 1
    assert "there is no namespace gone" in result.err
    assert "systemctl start netns-nft@gone" in result.err


@pytest.mark.parametrize("name", ["../demo", "", "host", "-x"])
def test_names_that_cannot_be(machine: Machine, name: str) -> None:
    assert machine.run_bare("--root", str(machine.root), "--", name, command=nft_save.command).code == 2


def test_without_its_unit_nothing_is_saved(machine: Machine) -> None:
    """On the real root systemd is asked; netns-tools-test is nobody's namespace."""
    result = machine.run_bare("netns-tools-test", command=nft_save.command)
    assert result.code == 1
    assert "netns_name@netns-tools-test.service" in result.err
