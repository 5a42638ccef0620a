"""Type definitions: shipped, in YAML, in bash; and their cache."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from netns_tools.config import definition, nstype
from netns_tools.config.nstype import cache_path, load_defaults, load_nstype, load_nstypes, write_cache
from netns_tools.errors import ConfigError
from netns_tools.paths import Paths

from .conftest import Write

VXLAN = """\
summary: A VXLAN tunnel
options:
  VX_ID: {kind: text, required: true, help: The number., example: "42"}
  VX_IFNAME: {kind: ifname, default: "vx${NSNAME}"}
  VX_IFADDR: {kind: addresses}
needs: {devices: [VX_IFNAME]}
requires: [lo]
steps:
  up_outside: ["ip link add {VX_IFNAME} type vxlan id {VX_ID}",
    "echo 'two words' \\"{NSNAME} x\\" a\\\\ b ''"]
  up_inside: ["ip address add {VX_IFADDR} dev {VX_IFNAME}"]
"""


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        definition.read("vx", "/etc/conf.d/netns/vx.yaml", text.encode())
    return caught.value.render().replace("/etc/conf.d/netns/", "")


def test_every_shipped_type_is_sound(paths: Paths) -> None:
    types = load_nstypes(paths)
    assert {"lo", "veth", "macvlan", "nft"} <= set(types)
    for name, found in types.items():
        assert found.name == name
        assert found.summary
        assert found.path == f"{paths.nstypes}/{name}.yaml"
        assert all(option.help for option in found.options.values())
    assert types["veth"].needs_namespaces == ["VETH_NSNAME_OUTSIDE"]
    assert not types["lo"].config_required
    assert "HOST_IFNAME" in load_defaults(paths)


def test_a_type_of_the_administrator(paths: Paths, write: Write) -> None:
    write("vx.yaml", VXLAN)
    found = load_nstype("vx", paths)
    assert (found.kind, found.requires, found.needs_devices) == ("commands", ["lo"], ["VX_IFNAME"])
    assert found.options["VX_ID"].required
    assert found.options["VX_IFNAME"].default == "vx${NSNAME}"
    assert found.steps["up_outside"] == [
        ["ip", "link", "add", "{VX_IFNAME}", "type", "vxlan", "id", "{VX_ID}"],
        ["echo", "two words", "{NSNAME} x", "a b", ""],
    ]
    assert "vx" in load_nstypes(paths)


def test_a_definition_in_a_directory_that_others_can_write(paths: Paths, write: Write) -> None:
    write("vx.yaml", VXLAN)
    os.chmod(paths.conf, 0o777)
    with pytest.raises(ConfigError, match="refused: can be written by everybody"):
        load_nstype("vx", paths)


def test_yaml_without_steps_is_a_layer(paths: Paths, write: Write) -> None:
    write("veth.yaml", "veth_mtu: 1400 # no steps here\n")
    assert load_nstype("veth", paths).kind == "link"


def test_which_definition_counts(paths: Paths, write: Write) -> None:
    legacy = Path(paths.legacy_types)
    legacy.mkdir(parents=True)
    for name in ("veth", "vx"):
        (legacy / f"{name}.sh").write_text("")
    assert load_nstype("veth", paths).kind == "link"
    assert load_nstype("vx", paths).path == f"{legacy}/vx.sh"
    write("vx.yaml", VXLAN)
    assert load_nstype("vx", paths).kind == "commands"
    write("veth.yaml", VXLAN)
    assert load_nstype("veth", paths).path == f"{paths.conf}/veth.yaml"
    for name in ("veth", "vx"):
        write(f"{name}.sh", "")
        assert load_nstype(name, paths).kind == "bash"


def test_bash_types(paths: Paths, write: Write) -> None:
    path = write("tun.sh", "configure_tun_up_inside() { :; }\n")
    assert load_nstype("tun", paths).config_required
    write("tun.sh", "NO_CONFIG_REQUIRED=1\n")
    assert not load_nstype("tun", paths).config_required
    os.chmod(path, 0o666)
    with pytest.raises(ConfigError, match="refused: can be written by everybody"):
        load_nstype("tun", paths)


def test_an_unknown_type_says_what_there_is(paths: Paths) -> None:
    with pytest.raises(ConfigError) as caught:
        load_nstype("veht", paths)
    told = caught.value.render()
    assert "no type 'veht'" in told
    assert "did you mean 'veth'?" in told
    assert "lo, macvlan" in told


@pytest.mark.parametrize("name", ["", "a-b", "../veth", "default", "é"])
def test_names_that_are_no_types(paths: Paths, name: str) -> None:
    with pytest.raises(ConfigError):
        load_nstype(name, paths)


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("summary: A VXLAN tunnel\n", "", "1:1", "a type needs a summary"),
        ("kind: text", "kind: txt", "3:17", "no kind 'txt'"),
        ("kind: text, ", "", "3:10", "no kind ''"),
        ("required: true", "required: maybe", "3:33", "must be yes or no"),
        ("required: true", "reqired: true", "3:23", "unknown key 'reqired'"),
        ("VX_ID:", "vx_id:", "3:10", "cannot be an option"),
        ("VX_ID:", "NSNAME:", "3:11", "set by netns-tools"),
        ("{kind: ifname", "{kind: choice", "4:14", "belong together"),
        ("devices: [VX_IFNAME]", "devices: [VX_IF]", "6:18", "no option 'VX_IF'"),
        ("requires: [lo]", "requires: [a-b]", "7:12", "no type name"),
        ("requires: [lo]", "requires: lo", "7:11", "must be a list"),
        ("up_inside:", "up_insid:", "11:3", "unknown key 'up_insid'"),
        ("dev {VX_IFNAME}", "dev {VX_NAME}", "11:49", "no option 'VX_NAME'"),
        ("dev {VX_IFNAME}", "'dev", "11:15", "a quote ' is never closed"),
        ("requires: [lo]", "kind: link", "9:3", "a type of kind 'link' has no steps"),
    ],
)
def test_broken_definitions(old: str, new: str, place: str, told: str) -> None:
    assert old in VXLAN
    told_all = refused(VXLAN.replace(old, new))
    assert told in told_all
    assert f"vx.yaml:{place.split(':')[0]}:" in told_all


def test_all_broken_definitions_are_told_at_once(paths: Paths, write: Write) -> None:
    write("a.yaml", "steps: 1\n")
    write("b.yaml", "steps: {up: []}\n")
    with pytest.raises(ConfigError) as caught:
        load_nstypes(paths)
    assert {problem.path.rpartition("/")[2] for problem in caught.value.problems} == {"a.yaml", "b.yaml"}


# The cache


@pytest.fixture
def own_data(paths: Paths, tmp_path: Path) -> Paths:
    """Shipped definitions that a test may change."""
    shutil.copytree(paths.nstypes, tmp_path / "nstypes")
    paths.nstypes = str(tmp_path / "nstypes")
    return paths


def test_the_cache_saves_reading_yaml(own_data: Paths, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("vx.yaml", VXLAN)
    before = load_nstypes(own_data)
    assert not any(found.cached for found in before.values())
    write_cache(own_data)
    monkeypatch.setitem(sys.modules, "netns_tools.config.definition", None)  # reading YAML would now fail
    after = load_nstypes(own_data)
    assert all(found.cached for found in after.values())
    assert load_defaults(own_data)["HOST_IFNAME"].default == "eth0"
    for name, found in after.items():
        assert found.steps == before[name].steps
        assert found.needs_devices == before[name].needs_devices
        for option in found.options.values():
            other = before[name].options[option.name]
            assert all(getattr(option, slot) == getattr(other, slot) for slot in option.__slots__)


def test_a_changed_definition_is_read_anew(own_data: Paths, write: Write) -> None:
    path = write("vx.yaml", VXLAN)
    write_cache(own_data)
    assert load_nstype("vx", own_data).cached
    status = os.stat(path)
    write("vx.yaml", VXLAN.replace("A VXLAN tunnel", "Another tunnel"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    found = load_nstype("vx", own_data)
    assert (found.cached, found.summary) == (False, "Another tunnel")
    write_cache(own_data)
    assert load_nstype("vx", own_data).cached
    assert load_nstype("veth", own_data).cached


def test_a_definition_that_became_a_layer(own_data: Paths, write: Write) -> None:
    write("veth.yaml", VXLAN)
    write_cache(own_data)
    write("veth.yaml", "veth_mtu: 1400")
    assert load_nstype("veth", own_data).kind == "link"
    os.unlink(f"{own_data.conf}/veth.yaml")
    assert load_nstype("veth", own_data).kind == "link"


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "writable", "directory", "nonsense"])
def test_a_damaged_cache_is_not_used(own_data: Paths, damage: str) -> None:
    write_cache(own_data)
    path = Path(cache_path(own_data))
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "writable":
        path.chmod(0o666)
    elif damage == "nonsense":
        import marshal
        from binascii import crc32

        content = marshal.dumps({f"{own_data.nstypes}/veth.yaml": 1, 2: 3})
        path.write_bytes(nstype._CACHE_MAGIC + b"%08x" % crc32(content) + content)
    else:
        path.unlink()
        path.mkdir()
    found = load_nstype("veth", own_data)
    assert not found.cached
    assert "VETH_MTU" in found.options
    if damage != "directory":
        path.chmod(0o644)
        write_cache(own_data)
        assert load_nstype("veth", own_data).cached


def test_a_cache_that_cannot_be_written_does_not_matter(own_data: Paths) -> None:
    Path(own_data.cache).parent.mkdir(parents=True)
    Path(own_data.cache).write_text("")
    write_cache(own_data)
    assert load_nstype("veth", own_data).kind == "link"


def test_writing_the_cache_leaves_no_other_file(own_data: Paths) -> None:
    write_cache(own_data)
    write_cache(own_data)
    assert os.listdir(own_data.cache) == [os.path.basename(cache_path(own_data))]
