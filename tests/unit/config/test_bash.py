"""Files with real shell in them are read by bash, in clean surroundings."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from netns_tools.config import bash
from netns_tools.config.bash import Shell
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError

BEFORE = {"NAME": "demo", "BASE": "10.0.0", "ODD": "a'b\n$(touch pwned)"}


def run(path: Path, text: str, shell: Shell | None = None) -> dict[str, Value]:
    path.write_text(text)
    return bash.evaluate(str(path), text, BEFORE, shell or Shell())


def refused(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        run(path, text)
    return caught.value.render().replace(f"{path}", "veth.conf")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "veth.conf"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=$(echo $BASE.1)", {"A": "10.0.0.1"}),
        ("if [[ $NAME == demo ]]; then A=yes; fi", {"A": "yes"}),
        ("f() { A=$1; }; f x", {"A": "x"}),
        ("export A=1; declare B=2; readonly C=3", {"A": "1", "B": "2", "C": "3"}),
        ("A=$ODD", {"A": BEFORE["ODD"]}),
        ("A=$((6*7)); unset A_B; declare D", {"A": "42"}),
        ("A=(x y)", {"A": "x"}),
        ("printf() { :; }; builtin() { :; }; declare() { :; }; IFS=x; A=1xy", {"A": "1xy"}),
        ("echo $UID; A=$(id -u)", {"A": str(os.getuid())}),
        ("BASE=${BASE}.7; NAME=demo; :", {"BASE": "10.0.0.7", "NAME": "demo"}),
        ("false; A=é; return 3", {"A": "é"}),
    ],
)
def test_variables(file: Path, text: str, expected: dict[str, str]) -> None:
    assert {name: value.text for name, value in run(file, text).items()} == expected


def test_surroundings_are_clean(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("BASH_ENV", "/nonexistent")
    values = run(file, "E=$(env | sort | cut -d= -f1 | tr '\\n' ' ')\nread -r X\necho out; echo err >&2\n")
    assert values["E"].text.split() == ["LC_ALL", "PATH", "PWD", "SHLVL", "_"]
    assert "X" not in values or values["X"].text == ""
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["out", "err"]


def test_functions_and_arrays_reach_later_files(file: Path) -> None:
    shell = Shell()
    run(file, 'host() { echo "10.0.$1.$2"; }\nlist=(a b)\ndeclare -A map=([k]=v)', shell)
    values = run(file, "A=$(host 1 2) B=${list[1]} C=${map[k]}", shell)
    assert [values[name].text for name in "ABC"] == ["10.0.1.2", "b", "v"]


def test_unset_is_told(file: Path) -> None:
    shell = Shell()
    run(file, "unset BASE", shell)
    assert shell.unset == {"BASE"}


def test_the_place_of_an_assignment(file: Path) -> None:
    value = run(file, "# A=0\nA=1\nif true; then A=$(echo 2); fi\n")["A"]
    assert (value.line, value.column, value.source) == (3, 17, "if true; then A=$(echo 2); fi")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A=1\nif true; then\n", ":3", "unexpected end of file"),
        ("A=1\nB=)\n", ":2", "syntax error near unexpected token"),
        ("A=$(true\n", "", "matching `)'"),
        ("if true; then\n A = 3\nfi", ":2", "no blanks around '='"),
        ("true; exit 0", "", "bash ended while reading it"),
        ("exec true", "", "bash ended while reading it"),
        ("A=1\n: ${B:?not given}", ":2", "B: not given"),
        ("set -e\nfalse\n", "", "bash ended"),
    ],
)
def test_a_file_that_is_not_read_to_its_end_is_refused(
    file: Path, text: str, line: str, message: str
) -> None:
    told = refused(file, text)
    assert told.startswith(f"veth.conf{line}")
    assert message in told


def test_a_file_that_takes_too_long(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bash, "TIME_LIMIT", 0.5)
    begin = time.monotonic()
    assert "did not finish" in refused(file, "sleep 60 & while :; do :; done")
    assert time.monotonic() - begin < 5


def test_background_processes_do_not_survive(file: Path, tmp_path: Path) -> None:
    values = run(file, "sleep 300 & CHILD=$!")
    deadline = time.monotonic() + 5
    status = Path(f"/proc/{values['CHILD'].text}/stat")
    while status.exists() and ") Z " not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
