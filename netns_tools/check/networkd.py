"""systemd-networkd ships files that take over devices named ve-*, and removes the addresses given to them."""

from __future__ import annotations

from fnmatch import fnmatchcase

from netns_tools.check.devices import created_devices
from netns_tools.check.places import HOST, Place
from netns_tools.check.survey import Finding, NetworkFile, Survey, at

_VETH = {"Kind": "veth", "Driver": "veth", "Type": "ether"}
"""What a veth device is to [Match] (systemd.network(5))."""


def check(survey: Survey) -> list[Finding]:
    """One finding for each shipped .network file that would manage devices of ours."""
    if not survey.machine.networkd:
        return []
    taken: dict[str, list[Place]] = {}
    for place in created_devices(survey):
        if place.namespace == HOST and place.key[0] == "veth":
            file = next((file for file in survey.machine.network_files if _matches(file, place.thing)), None)
            if file is not None and "/lib/systemd/network/" in file.path and not _unmanaged(file):
                taken.setdefault(file.path, []).append(place)
    return [_finding(path, found) for path, found in taken.items()]


def _finding(path: str, found: list[Place]) -> Finding:
    names = ", ".join(place.thing for place in found[:4]) + (", …" if len(found) > 4 else "")
    pattern = (
        "ve-*" if all(place.thing.startswith("ve-") for place in found) else " ".join(p.thing for p in found)
    )
    return Finding(
        at(
            found[0].value,
            f"systemd-networkd manages {names} by {path} and takes the addresses away that netns-tools gives",
            hint="write /etc/systemd/network/79-netns-tools.network with the lines '[Match]', "
            f"'Name={pattern}', '[Link]', 'Unmanaged=yes', or set VETH_IFNAME to something else than 've-'",
            severity="warning",
        ),
        [place.key for place in found],
    )


def _matches(file: NetworkFile, device: str) -> bool:
    """Whether [Match] of a .network file holds for a veth device; what it cannot know does not hold."""
    conditions = list(_section(file, "Match"))
    for key, value in conditions:
        if key == "Name":
            words = value.removeprefix("!").split()
            if any(fnmatchcase(device, word) for word in words) == value.startswith("!"):
                return False
        elif key not in _VETH or _VETH[key] not in value.split():
            return False
    return bool(conditions)


def _unmanaged(file: NetworkFile) -> bool:
    return ("Unmanaged", "yes") in list(_section(file, "Link"))


def _section(file: NetworkFile, wanted: str) -> list[tuple[str, str]]:
    """Keys and values of a section, in order."""
    section, found = "", []
    for line in map(str.strip, file.text.splitlines()):
        if line.startswith("["):
            section = line.strip("[]")
        elif section == wanted and "=" in line and line[0] not in "#;":
            key, _equals, value = line.partition("=")
            found.append((key.strip(), value.strip()))
    return found
