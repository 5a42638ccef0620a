"""Settings are put back exactly as they were, with all that the kernel changed along with them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import netns, sysctl
from netns_tools.kernel.sysctl import FORWARD, Sysctls
from tests.kernel.isolated import ip, isolated


def settings(family: int) -> dict[str, str]:
    """Every setting of every interface, and what belongs to none."""
    top = Path(f"/proc/sys/net/ipv{family}")
    found = {}
    for file in (*top.glob("conf/*/*"), top / "ip_forward"):
        # The kernel's own secret can be read by nobody as long as there is none.
        if file.exists() and file.name not in ("stable_secret",):
            found[str(file)] = file.read_text()
    return found


def of_another_process(path: Path) -> Sysctls:
    """What remembers nothing but the file."""
    return Sysctls(str(path), netns.cookie())


@pytest.mark.parametrize("family", [4, 6])
@isolated
def test_forwarding_is_put_back_exactly(family: int, tmp_path: Path) -> None:
    """Interfaces that had another value than all have it again."""
    ip("link add eth0 type bridge", "link add eth.1 type bridge")
    other = f"net/ipv{family}/conf/eth.1/forwarding"
    sysctl.write(other, "1")
    sysctl.write("net/ipv4/conf/all/accept_redirects", "0")
    before = settings(family)
    record = tmp_path / "record"
    assert of_another_process(record).set(FORWARD[family], "1")
    assert settings(family) != before
    assert sysctl.read(f"net/ipv{family}/conf/eth0/forwarding") == "1"
    assert not of_another_process(record).set(FORWARD[family], "1")
    assert of_another_process(record).restore() == [(FORWARD[family], "0")]
    assert settings(family) == before
    assert not record.exists()
    assert of_another_process(record).restore() == []


@isolated
def test_redirects_are_taken_again(tmp_path: Path) -> None:
    before = settings(4)
    sysctls = of_another_process(tmp_path / "record")
    sysctls.set(FORWARD[4], "1")
    assert settings(4)["/proc/sys/net/ipv4/conf/all/accept_redirects"] == "0\n"
    sysctls.restore()
    assert settings(4) == before


@isolated
def test_what_others_did_meanwhile_stays(tmp_path: Path) -> None:
    ip("link add eth0 type bridge", "link add eth1 type bridge")
    sysctls = of_another_process(tmp_path / "record")
    sysctls.set(FORWARD[6], "1")
    sysctls.set(sysctl.route_localnet("eth0"), "1")
    sysctls.set(sysctl.route_localnet("eth1"), "1")
    ip("link add late type bridge", "link delete eth1")
    sysctl.write("net/ipv6/conf/eth0/forwarding", "0")
    sysctl.write(sysctl.route_localnet("eth0"), "0")
    expected = settings(6)
    assert of_another_process(tmp_path / "record").restore() == [(FORWARD[6], "0")]
    for name in ("all", "default", "lo", "late"):  # this one came up with what we had set
        expected[f"/proc/sys/net/ipv6/conf/{name}/forwarding"] = "0\n"
    assert settings(6) == expected
    assert sysctl.read(sysctl.route_localnet("eth0")) == "0"
    assert not (tmp_path / "record").exists()


@isolated
def test_route_localnet_of_one_interface(tmp_path: Path) -> None:
    ip("link add eth0 type bridge", "link add eth.1 type bridge", "link set eth.1 up")
    before = settings(4)
    sysctls = of_another_process(tmp_path / "record")
    sysctls.set(sysctl.route_localnet("eth.1"), "1")
    changed = {key for key, value in settings(4).items() if value != before[key]}
    assert changed == {"/proc/sys/net/ipv4/conf/eth.1/route_localnet"}
    assert sysctls.changed() == {sysctl.route_localnet("eth.1"): ("0", "1")}
    sysctls.restore([sysctl.route_localnet("eth0"), sysctl.route_localnet("eth.1")])
    assert settings(4) == before


@isolated
def test_what_was_set_already_is_not_ours(tmp_path: Path) -> None:
    sysctl.write(FORWARD[4], "1")
    sysctls = of_another_process(tmp_path / "record")
    assert not sysctls.set(FORWARD[4], "1")
    assert sysctls.restore() == []
    assert sysctl.read(FORWARD[4]) == "1"


@isolated
def test_set_back_by_others_and_set_again(tmp_path: Path) -> None:
    ip("link add eth0 type bridge")
    sysctls = of_another_process(tmp_path / "record")
    sysctls.set(FORWARD[4], "1")
    sysctl.write(FORWARD[4], "0")
    sysctl.write("net/ipv4/conf/eth0/forwarding", "1")
    before = settings(4)
    assert sysctls.set(FORWARD[4], "1")
    assert of_another_process(tmp_path / "record").restore() == [(FORWARD[4], "0")]
    assert settings(4) == before


@isolated
def test_interrupted_before_it_was_set(tmp_path: Path) -> None:
    """The record is there before the setting: what it says was not done is not undone."""
    sysctls = of_another_process(tmp_path / "record")
    sysctls.set(FORWARD[4], "1")
    text = (tmp_path / "record").read_text()
    sysctls.restore()
    (tmp_path / "record").write_text(text)
    sysctl.write("net/ipv4/conf/lo/forwarding", "1")
    before = settings(4)
    assert of_another_process(tmp_path / "record").restore() == []
    assert settings(4) == before


@isolated
def test_a_record_of_another_namespace_or_a_broken_one_counts_as_none(tmp_path: Path) -> None:
    record = tmp_path / "record"
    of_another_process(record).set(FORWARD[4], "1")
    assert Sysctls(str(record), netns.cookie() + 1).restore() == []
    of_another_process(record).set(FORWARD[6], "1")
    for text in ("", "[]", "{}", '{"namespace": 1}', record.read_text()[:-10], "\0"):
        record.write_text(text)
        assert of_another_process(record).changed() == {}


@isolated
def test_what_does_not_exist(tmp_path: Path) -> None:
    assert sysctl.read(sysctl.route_localnet("eth9")) is None
    sysctls = of_another_process(tmp_path / "record")
    with pytest.raises(NetnsToolsError, match="eth9/route_localnet to 1: there is no such setting"):
        sysctls.set(sysctl.route_localnet("eth9"), "1")
    for key in ("kernel/panic", "net/../kernel/panic", "net//x", "/net/x", "net/ipv4/conf/./forwarding"):
        with pytest.raises(NetnsToolsError, match="not a setting of the network"):
            sysctl.read(key)


@isolated
def test_a_read_only_proc_changes_nothing(tmp_path: Path) -> None:
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=60)
    subprocess.run(["mount", "--bind", "/proc/sys", "/proc/sys"], check=True, timeout=60)
    subprocess.run(["mount", "-o", "remount,bind,ro", "/proc/sys"], check=True, timeout=60)
    sysctls = of_another_process(tmp_path / "record")
    with pytest.raises(
        NetnsToolsError, match="cannot set sysctl net/ipv4/ip_forward to 1: Read-only"
    ) as caught:
        sysctls.set(FORWARD[4], "1")
    assert "outside of this container" in caught.value.hint
    assert sysctls.changed() == {}
    assert not (tmp_path / "record").exists()


@isolated
def test_without_a_record_nothing_is_set(tmp_path: Path) -> None:
    sysctls = of_another_process(tmp_path / "missing" / "record")
    with pytest.raises(NetnsToolsError, match="cannot write down"):
        sysctls.set(FORWARD[4], "1")
    assert sysctl.read(FORWARD[4]) == "0"
    assert sysctls.changed() == {}


@isolated
def test_without_rights_it_says_what_is_missing(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    os.setresuid(65534, 65534, 65534)
    with pytest.raises(NetnsToolsError, match="cannot set") as caught:
        sysctl.write(FORWARD[4], "1")
    assert caught.value.hint == "run it as root"
