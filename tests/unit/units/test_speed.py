"""1,000 instances: quick from nothing, and hardly noticeable when nothing has changed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
COUNT = 1000
UNCHANGED_SECONDS = 0.5
"""Wall time of the whole process; measured at 0.15 s on 2 cores."""


def run(root: Path) -> tuple[float, str]:
    """Seconds that a whole netns-update takes, and what it says."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from netns_tools.cli.update import main; main()"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(PROJECT), "--root", str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return time.monotonic() - started, done.stdout


def test_a_thousand_instances(tmp_path: Path) -> None:
    os.umask(0o022)
    conf = tmp_path / "etc/conf.d/netns"
    conf.mkdir(parents=True)
    for number in range(COUNT):
        net = f"10.{number // 250}.{number % 250}"
        text = f"VETH_IFADDR_OUTSIDE={net}.1/24\nVETH_IFADDR_INSIDE={net}.2/24\n"
        (conf / f"veth-n{number}.conf").write_text(text)
    time.sleep(0.1)  # files as young as a clock tick are read again next time
    seconds, said = run(tmp_path)
    shipped = len([path for path in (PROJECT / "nstypes").glob("*.yaml") if path.stem != "default"])
    assert said.count("Creating ") == COUNT + 2 * shipped
    assert seconds < 20
    fastest = UNCHANGED_SECONDS + 1
    for _ in range(5):  # other tests may keep both cores busy
        seconds, said = run(tmp_path)
        assert "Creating " not in said
        assert "Updating " not in said
        fastest = min(fastest, seconds)
        if fastest < UNCHANGED_SECONDS:
            break
    assert fastest < UNCHANGED_SECONDS
