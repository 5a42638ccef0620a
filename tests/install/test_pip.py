"""``pip install .``: an ordinary Python package, with its type definitions and templates."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FILES = ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE")
DIRECTORIES = ("netns_tools", "nstypes", "unit-templates")


def test_pip_install(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"  # pip leaves its build directory beside the sources
    for directory in DIRECTORIES:
        shutil.copytree(
            PROJECT / directory, checkout / directory, ignore=shutil.ignore_patterns("__pycache__")
        )
    for file in FILES:
        shutil.copy(PROJECT / file, checkout)
    venv = tmp_path / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--system-site-packages", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "--quiet", checkout], check=True, cwd=tmp_path)

    def run(*words: str) -> str:
        program, *arguments = words
        return subprocess.run(
            [venv / "bin" / program, *arguments], check=True, capture_output=True, text=True, cwd=tmp_path
        ).stdout

    root = tmp_path / "root"
    conf = root / "etc/conf.d/netns"
    conf.mkdir(parents=True)
    (conf / "veth-demo.conf").write_text("VETH_IFADDR_OUTSIDE=10.0.0.1/24\nVETH_IFADDR_INSIDE=10.0.0.2/24\n")
    assert run("netnsctl", "--version").startswith("netnsctl")
    assert "veth" in run("netnsctl", "types")
    run("netns-update", "--root", str(root))
    assert (root / "etc/systemd/system/netns-veth@.service").is_file()
    assert (root / "etc/systemd/system/netns-addrset@host.service").is_file()
    assert "Usage" in run("netns-nft-save", "--help")
    assert "Usage" in run("netns-addrset", "--help")
    assert "Usage" in run("netns-natmap", "--help")
