"""netns-update --root on an input tree gives the expected tree and words.

Each directory here is a case: ``input`` is a root directory, ``expected`` what
etc/systemd/system holds afterwards, ``output.txt`` what was said and the exit status.
After an intended change:  python3 tests/golden/test_golden.py --regenerate, then read git diff.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
CASES = sorted(path.name for path in HERE.iterdir() if (path / "input").is_dir())
UNITS = "etc/systemd/system"


def netns_update(root: Path, *options: str) -> str:
    """What netns-update says about a root directory, with the exit status as the last line."""
    program = "from netns_tools.cli.update import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--root", str(root), *options],
        cwd=PROJECT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = (done.stdout + done.stderr).replace(str(root), "ROOT").replace(str(PROJECT), "PROJECT")
    return f"{said}exit status {done.returncode}\n"


def prepare(case: str, root: Path) -> None:
    """Copy the input of a case; the checkout may have been made with any umask."""
    shutil.copytree(HERE / case / "input", root, symlinks=True)
    root.chmod(0o755)
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)


def tree(directory: Path) -> dict[str, str]:
    """Files below a directory with their text; links with their target."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}\n"
        elif path.is_file():
            found[name] = path.read_text()
    return found


def state(root: Path) -> dict[Path, tuple[int, int]]:
    """Which file is where, and when it was written."""
    return {path: (path.lstat().st_ino, path.lstat().st_mtime_ns) for path in (root / UNITS).rglob("*")}


def difference(expected: dict[str, str], actual: dict[str, str]) -> str:
    """A unified diff of two trees; empty when they are equal."""
    lines: list[str] = []
    for name in sorted(expected.keys() | actual.keys()):
        before, after = expected.get(name, ""), actual.get(name, "")
        if name in expected and name in actual and before == after:
            continue
        lines += difflib.unified_diff(
            before.splitlines(keepends=True),
            after.splitlines(keepends=True),
            f"expected/{name}" if name in expected else "/dev/null",
            f"actual/{name}" if name in actual else "/dev/null",
        ) or [f"one of both is missing: {name}\n"]
    return "".join(lines)


@pytest.mark.parametrize("case", CASES)
def test_expected(case: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare(case, root)
    said = netns_update(root)
    found = difference(tree(HERE / case / "expected"), tree(root / UNITS))
    found += difference({"output.txt": (HERE / case / "output.txt").read_text()}, {"output.txt": said})
    assert not found, f"\n{found}\nIf this is intended: python3 tests/golden/test_golden.py --regenerate"


@pytest.mark.parametrize("case", CASES)
def test_a_second_run_changes_nothing(case: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare(case, root)
    netns_update(root)
    before = state(root)
    said = netns_update(root)
    assert state(root) == before
    assert not re.search(r"^(Creating|Updating|Removed)", said, re.M)


@pytest.mark.parametrize("case", CASES)
def test_dry_run_and_diff_write_nothing(case: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare(case, root)
    before = tree(root)
    dry = netns_update(root, "--dry-run")
    diff = netns_update(root, "--diff")
    assert tree(root) == before
    words = re.findall(r"^(?:Creating|Updating|Removed).*$", netns_update(root), re.M)
    assert re.findall(r"^(?:Creating|Updating|Removed).*$", dry, re.M) == words
    assert len(re.findall(r"^\+\+\+ ", diff, re.M)) == len(words)


# What "requires" reports as errors, systemd cannot load either.
@pytest.mark.parametrize("case", [case for case in CASES if case != "requires"])
def test_systemd_verifies_the_units(case: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there: apt install systemd")
    directory = tmp_path / "units"
    directory.mkdir()
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    static = {path.name: path.read_text() for path in (PROJECT / "unit-templates/static").iterdir()}
    # As an administrator may copy them; the generic names themselves have no type.
    static["netns-copied@.service"] = static.pop("netns@.service")
    static["netns_outside-copied@.service"] = static.pop("netns_outside@.service")
    generated = tree(HERE / case / "expected")
    # Links and stand-ins for old files are no units to verify: those of no configuration take their place.
    whole = {
        name: text
        for name, text in generated.items()
        if "\nExec" in text or (".d/" in name and "\n[" in text)
    }
    for name, text in (static | tree(HERE / "nothing/expected") | whole).items():
        text = re.sub(r"(/usr/sbin|@BINDIR@)/netns(init|-\w+)", str(program), text)
        text = text.replace("@LIBDIR@", "/usr/lib")
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    instances = {
        name.partition("/")[0].removesuffix(".d") for name in whole if "/50-netns-tools.conf" in name
    }
    templates = {path.name.replace("@.", "@some-name.") for path in directory.glob("*@.service")}
    of_hosts = {path.name for path in directory.glob("*@host.service")}
    names = sorted(
        name
        for name in instances | templates | of_hosts
        if (directory / (name.partition("@")[0] + "@.service")).exists()
    )
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        env={"SYSTEMD_UNIT_PATH": f"{directory}:", "PATH": "/usr/bin:/bin", "SYSTEMD_LOG_COLOR": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "netns" in line]
    assert not complaints, "\n".join(complaints)


def test_a_daemon_is_exposed_as_little_as_it_can_be(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there: apt install systemd")
    expected = HERE / "daemon/expected"
    for file, name in (
        ("netns-addrset@.service", "netns-addrset@blue.service"),
        ("netns-addrset@host.service", "netns-addrset@host.service"),
        ("netns-natmap@.service", "netns-natmap@blue.service"),
        ("netns-natmap@host.service", "netns-natmap@host.service"),
    ):
        shutil.copy(expected / file, tmp_path / name)
        done = subprocess.run(
            [
                *("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=25"),
                str(tmp_path / name),
            ],
            env={"PATH": "/usr/bin:/bin", "SYSTEMD_LOG_COLOR": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Overall exposure level for {name}" in done.stdout


def test_json_has_the_same_changes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare("administrator", root)
    said = netns_update(root, "--json", "--diff").rpartition("exit status 1\n")[0]
    data = json.loads(said)
    assert data["dry_run"] is True
    assert data["daemon_reload"] is False
    assert {change["verb"] for change in data["changes"]} == {"create", "update", "remove"}
    assert all(change["diff"].startswith("--- ") for change in data["changes"])
    assert {problem["severity"] for problem in data["problems"]} == {"warning", "error"}


def test_clean_removes_all_that_was_generated_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare("administrator", root)
    netns_update(root)
    said = netns_update(root, "--clean")
    assert said.endswith("Update successful.\nexit status 0\n")
    left = tree(root / UNITS)
    assert not [name for name, text in left.items() if text.startswith("# Generated by netns-update")]
    before = tree(HERE / "administrator/input" / UNITS)
    foreign = {name: text for name, text in before.items() if "# " not in text}
    assert left == foreign


def test_clean_keeps_what_is_in_use(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare("running", root)
    netns_update(root)
    said = netns_update(root, "--clean")
    assert said.endswith("exit status 1\n")
    assert {"netns-veth@.service", "netns_outside-veth@.service", "netns-gone@.service"} <= tree(
        root / UNITS
    ).keys()
    assert "netns-nft@.service" not in tree(root / UNITS)


def test_quiet_says_only_what_is_wrong(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare("veth", root)
    assert netns_update(root, "-q") == "exit status 0\n"


UNITS_OF_ADDRSET = ("netns-addrset@.service", "netns-addrset@host.service")


def test_a_daemon_that_becomes_a_type_of_steps(tmp_path: Path) -> None:
    """An own TYPE.sh takes the place of the shipped daemon, and gives it back."""
    root = tmp_path / "root"
    prepare("daemon", root)
    netns_update(root)
    script = root / "etc/conf.d/netns/addrset.sh"
    script.write_text("configure_addrset_up_inside() { :; }\n")
    said = netns_update(root)
    files = tree(root / UNITS)
    assert "# netns-tools kind: bash\n" in files["netns-addrset@.service"]
    assert "netns_outside-addrset@.service" in files
    assert "netns-addrset@host.service" not in files
    assert "addrset-host.yaml: warning: not used" in said
    script.unlink()
    netns_update(root)
    expected = tree(HERE / "daemon/expected")
    assert tree(root / UNITS) == expected


@pytest.mark.parametrize(("name", "kept"), [("blue", 0), ("host", 1)])
def test_a_daemon_that_runs_keeps_its_unit(name: str, kept: int, tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepare("daemon", root)
    netns_update(root)
    (root / "etc/conf.d/netns/addrset.sh").write_text("configure_addrset_up_inside() { :; }\n")
    (root / "run/netns-tools").mkdir(parents=True, exist_ok=True)
    (root / f"run/netns-tools/addrset-{name}.sock").touch()
    before = tree(root / UNITS)
    said = netns_update(root)
    after = tree(root / UNITS)
    unit, other = UNITS_OF_ADDRSET[kept], UNITS_OF_ADDRSET[1 - kept]
    assert after[unit] == before[unit]
    assert after.get(other) != before[other]
    assert f"systemctl stop netns-addrset@{name}.service, then run netns-update again" in said


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(option: str, tmp_path: Path) -> None:
    said = netns_update(tmp_path, option)
    assert said.startswith("Usage: netns-update [OPTIONS]")
    assert said.endswith("exit status 0\n")


def regenerate() -> None:
    """Make what is expected from what is."""
    for case in CASES:
        with tempfile.TemporaryDirectory() as work:
            root = Path(work) / "root"
            prepare(case, root)
            (HERE / case / "output.txt").write_text(netns_update(root))
            shutil.rmtree(HERE / case / "expected", ignore_errors=True)
            shutil.copytree(root / UNITS, HERE / case / "expected", symlinks=True)


if __name__ == "__main__":
    if sys.argv[1:] != ["--regenerate"]:
        sys.exit("usage: python3 tests/golden/test_golden.py --regenerate")
    os.umask(0o022)
    regenerate()
