"""A plain configuration is loaded without the modules that make a start slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from netns_tools.config.nstype import write_cache
from netns_tools.paths import Paths

from .conftest import Write

HEAVY = {
    *(
        "argparse",
        "click",
        "contextlib",
        "dataclasses",
        "difflib",
        "enum",
        "functools",
        "ipaddress",
        "jinja2",
    ),
    *("json", "logging", "pathlib", "re", "shlex", "socket", "subprocess", "typing", "yaml"),
}
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from netns_tools.config.layers import load_config
from netns_tools.config.nstype import load_nstype
from netns_tools.paths import Paths
paths = Paths(sys.argv[2])
config = load_config(load_nstype("veth", paths), "demo", paths)
assert config.text("VETH_IFNAME_INSIDE") == "ve-demo1"
print(*sys.modules)
"""


def test_what_a_start_imports(paths: Paths, write: Write) -> None:
    write("default.conf", "HOST_IFNAME=eth0\n")
    write("veth.conf", "VETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE=${VETH_IFADDR_OUTSIDE%.*}.2/24\n")
    write_cache(paths)
    project = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-IS", "-c", PROGRAM, project, paths.root],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.split())
    assert modules & HEAVY == set()
    assert "netns_tools.config.yamlfile" not in modules
    assert "netns_tools.config.bash" not in modules
