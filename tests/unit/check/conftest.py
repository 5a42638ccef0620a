"""A survey of configuration files, without a machine: what the checks see."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from netns_tools.check.survey import Instance, Survey
from netns_tools.config.layers import inspect_config
from netns_tools.config.nstype import load_nstypes
from netns_tools.paths import Paths

Surveyor = Callable[[dict[str, str]], Survey]


@pytest.fixture
def survey(tmp_path: Path) -> Surveyor:
    """Write files and read each TYPE-NAME among them; they are named ``/TYPE-NAME.conf`` in the survey."""
    os.umask(0o022)

    def make(files: dict[str, str]) -> Survey:
        paths = Paths(str(tmp_path))
        conf = Path(paths.conf)
        conf.mkdir(parents=True)
        for name, text in files.items():
            (conf / name).write_text(text)
        types = load_nstypes(paths)
        found = Survey(paths.conf, set(types), sorted(files))
        for key in sorted(
            {(stem[0], stem[2]) for stem in (Path(name).stem.partition("-") for name in files)}
        ):
            if key[0] in types and key[1]:
                found.instances.append(Instance(*key))
                found.configs[key], _problems = inspect_config(types[key[0]], key[1], paths)
        return found

    return make


def veth(net: str, more: str = "") -> str:
    """The lines of a veth with the addresses .1 and .2 of a network."""
    return f"VETH_IFADDR_OUTSIDE={net}.1/24\nVETH_IFADDR_INSIDE={net}.2/24\n{more}"


def macvlan(address: str, more: str = "") -> str:
    """The lines of a macvlan."""
    return f"MACVLAN_IFADDR={address}\n{more}"
