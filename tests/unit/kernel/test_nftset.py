"""Elements and commands of nft: their texts and their JSON."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns_tools.kernel import nftset
from netns_tools.kernel.nftset import SetId, element_json, element_text, render

WAN = SetId("inet", "filter", "wan_ips")
ADDRESSES = st.ip_addresses().map(lambda ip: socket.inet_ntop(2 if ip.version == 4 else 10, ip.packed))


def test_id() -> None:
    assert str(WAN) == "inet filter wan_ips"
    assert sorted([WAN, SetId("inet", "filter", "a")])[0].name == "a"


@given(
    st.one_of(
        ADDRESSES,
        st.builds("{}/{}".format, ADDRESSES, st.integers(0, 32)),
        st.builds("{}-{}".format, ADDRESSES, ADDRESSES),
        st.just("*"),
    )
)
def test_a_text_survives_json(text: str) -> None:
    assert element_text(element_json(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "",
        "eth0",
        "192.0.2",
        "192.0.2.1/",
        "192.0.2.1/x",
        "192.0.2.1/²",
        "a-b",
        "1.1.1.1-",
        "fe80::1%lo",
    ],
)
def test_only_numbers_are_taken(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        nftset.add_elements(WAN, [text])


@given(st.text(max_size=20))
def test_any_text_is_an_element_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert element_text(element_json(text))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["elem", "val", "prefix", "addr", "len", "range", "concat", "x"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_has_a_text(raw: object) -> None:
    assert isinstance(element_text(raw), str)


def test_lines() -> None:
    commands = [
        nftset.add_table("inet", "mine"),
        nftset.add_set(WAN, "ipv4_addr", ["interval"]),
        nftset.add_set(WAN, "ipv6_addr"),
        nftset.flush_set(WAN),
        nftset.add_elements(WAN, ["192.0.2.1", "10.0.0.0/24", "10.1.0.1-10.1.0.9"]),
        *nftset.delete_elements(WAN, ["192.0.2.1"]),
        nftset.delete_set(WAN),
        nftset.delete_table("inet", "mine"),
    ]
    assert [render(command) for command in commands] == [
        "add table inet mine",
        "add set inet filter wan_ips { type ipv4_addr; flags interval; }",
        "add set inet filter wan_ips { type ipv6_addr; }",
        "flush set inet filter wan_ips",
        "add element inet filter wan_ips { 192.0.2.1, 10.0.0.0/24, 10.1.0.1-10.1.0.9 }",
        "add element inet filter wan_ips { 192.0.2.1 }",
        "delete element inet filter wan_ips { 192.0.2.1 }",
        "delete set inet filter wan_ips",
        "delete table inet mine",
    ]


def test_elements_of_others_keep_what_they_have() -> None:
    raw = {"elem": {"val": "192.0.2.1", "comment": "door", "counter": {"packets": 5, "bytes": 100}}}
    command = nftset.add_raw_elements(WAN, [("192.0.2.1", raw), ("10.0.0.0/24", "10.0.0.0/24")])
    assert command == {
        "add": {
            "element": {
                "family": "inet",
                "table": "filter",
                "name": "wan_ips",
                "elem": [raw, {"prefix": {"addr": "10.0.0.0", "len": 24}}],
            }
        }
    }
    assert render(command) == (
        "add element inet filter wan_ips"
        ' { 192.0.2.1 counter packets 5 bytes 100 comment "door", 10.0.0.0/24 }'
    )


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (f"Error: Could not process rule: {os.strerror(errno.ENOENT)}", "missing"),
        (f"Error: {os.strerror(errno.ENOENT)}; did you mean set 'a' in table inet 'f'?", "missing"),
        (f"Error: Could not process rule: {os.strerror(errno.EPERM)}", "permission"),
        (f"Error: Could not process rule: {os.strerror(errno.EBUSY)}", "busy"),
        (f"Error: Could not process rule: {os.strerror(errno.ENFILE)}", "full"),
        (f"Error: Could not process rule: {os.strerror(errno.EEXIST)}", "exists"),
        ("Error: interval overlaps with an existing one", "exists"),
        ("Error: Could not resolve hostname: Name or service not known", "other"),
        ("", "other"),
    ],
)
def test_what_nft_says_is_told_apart(said: str, kind: str) -> None:
    error = nftset.nft_error(f"internal:0:0-0: {said}\n\n".encode() if said else b"")
    assert error.errno == kind
    assert "internal" not in error.message
    assert error.message.startswith("nft")
    assert "\n" not in error.message


def test_what_nft_says_need_not_be_utf8() -> None:
    assert nftset.nft_error(b"Error: \xff\n").message


@pytest.mark.parametrize(
    ("userdata", "merges"), [(b"", False), (b"\2\4\1\0\0\0", True), (b"\2\4\0\0\0\0", False)]
)
def test_auto_merge(userdata: bytes, merges: bool) -> None:
    assert nftset.has_auto_merge(userdata) is merges


@given(st.binary(max_size=40))
def test_any_userdata(userdata: bytes) -> None:
    nftset.has_auto_merge(userdata)


def test_the_binding_is_loaded_late() -> None:
    """Plans and commands are made without libnftables."""
    code = "import sys; import netns_tools.kernel.nftset; sys.exit('nftables' in sys.modules)"
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=30, check=False).returncode == 0
