"""Our rule in the DOCKER-USER of a real dockerd: there once, through a restart, and gone without a trace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.docker.conftest import Docker

MARK = 0x00400000

pytestmark = pytest.mark.skipif(shutil.which("iptables-nft") is None, reason="iptables is not installed")


def call(docker: Docker, expression: str) -> list[Any]:
    """What a function of the module returns in Docker's network namespace."""
    program = (
        "import json; from netns_tools.kernel.dockeruser import *; "
        f"print(json.dumps({expression}, default=lambda chain: [chain.family, chain.variant]))"
    )
    return list(json.loads(run(docker, sys.executable, "-c", program)))


def run(docker: Docker, *words: str) -> str:
    return subprocess.run(
        docker.inside(*words), capture_output=True, text=True, check=True, timeout=60
    ).stdout


def rules(docker: Docker) -> list[str]:
    return run(docker, "iptables-nft", "-w", "10", "-S").splitlines()


def test_one_rule_through_a_restart(docker: Docker) -> None:
    before = rules(docker)
    assert "-A DOCKER-USER -j RETURN" in before
    assert "-P FORWARD DROP" in before
    (said,) = call(docker, f"ensure({MARK})")
    assert said.startswith("iptables-nft -w 5 -I DOCKER-USER 1 ")
    during = rules(docker)
    (new,) = set(during) - set(before)
    docker.stop_daemon()
    docker.start_daemon()
    assert new in rules(docker)
    assert call(docker, f"ensure({MARK})") == []
    assert call(docker, f"[accepts(chain, {MARK}) for chain in observe()]") == [True]
    assert len(call(docker, "remove()")) == 1
    assert sorted(rules(docker)) == sorted(before)
    assert call(docker, "observe()") == [[4, "nft"]]
