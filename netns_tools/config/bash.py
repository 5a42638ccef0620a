"""Files with real shell in them: bash reads them, we take the variables.

bash runs without start-up files, with nothing but PATH and LC_ALL in its environment,
standard input from /dev/null, standard output on standard error, for at most
TIME_LIMIT seconds and 16 MiB of output. Variables of lower layers are shell variables in scope, not
environment; functions and arrays of lower files are handed on as well.
"""

from __future__ import annotations

import os

from netns_tools.config.shell import NAME_CHARS, is_name, is_shell_own
from netns_tools.config.value import Value
from netns_tools.errors import ConfigError, Problem

TIME_LIMIT = 20.0
"""Seconds that one file may take."""

BASH = "/bin/bash"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Runs in bash: $1 the prelude, $2 the file, $3 the descriptor of the result.
# "builtin" everywhere, since the file may define functions of any name.
_DRIVER = r"""
command_not_found_handle() {
    builtin printf '%s: line %s: %s: command not found\n' "${BASH_SOURCE[1]}" "${BASH_LINENO[0]}" "$1" >&2
    builtin printf 'missing\0%s\0%s\0%s\0' "$1" "${2-}" "${BASH_LINENO[0]}" >&"$__netns_fd"
    builtin return 127
}
builtin ulimit -f 16384
__netns_fd=$3
__netns_file=$2
builtin source "$1"
builtin set --
builtin source "$__netns_file"
__netns_status=$?
unset -f builtin
builtin set +eux
builtin unset -f command_not_found_handle
builtin unset IFS
while builtin read -r __netns_name; do
    [[ -v $__netns_name || ${!__netns_name@a} == *[aA]* ]] || builtin continue
    __netns_kind=${!__netns_name@a}
    builtin printf 'var\0%s\0%s\0%s\0' "$__netns_name" "$__netns_kind" "${!__netns_name-}" >&"$__netns_fd"
    [[ $__netns_kind == *[aA]* ]] &&
        builtin printf 'state\0%s\0%s\0\0' "$__netns_name" \
            "$(builtin declare -p "$__netns_name")" >&"$__netns_fd"
done < <(builtin compgen -v)
builtin printf 'state\0\0%s\0\0' "$(builtin declare -f)" >&"$__netns_fd"
builtin printf 'end\0%s\0\0\0' "$__netns_status" >&"$__netns_fd"
"""


class Shell:
    """What lower real-shell files left behind besides plain variables.

    ``state``: functions and arrays as bash prints them; ``arrays``: the name of each
    array → its first element, which is what ``$NAME`` gives; ``unset``: variables
    that the last file removed.
    """

    __slots__ = ("arrays", "state", "unset")

    def __init__(self) -> None:
        self.state = ""
        self.arrays: dict[str, str] = {}
        self.unset: set[str] = set()


class _Result:
    """What bash reports at the end: ``found`` variables; ``ended`` tells whether it came to its end."""

    def __init__(self, records: list[tuple[str, str, str, str]]) -> None:
        self.found: dict[str, str] = {}
        self.arrays: dict[str, str] = {}
        self.state: list[str] = []
        self.missing: list[tuple[str, str, str]] = []
        self.ended = False
        for kind, first, second, third in records:
            ours = not is_shell_own(first) and not first.startswith("__netns_")
            if kind == "var" and ours:
                self.found[first] = third
                if "a" in second.lower():
                    self.arrays[first] = third
            elif kind == "state" and ours:
                self.state.append(second)
            elif kind == "missing":
                self.missing.append((first, second, third))
            elif kind == "end":
                self.ended = True


def evaluate(path: str, text: str, variables: dict[str, str], shell: Shell) -> dict[str, Value]:
    """The variables that bash has after reading ``path`` and that are new or different from ``variables``.

    ``text`` is the content, for places. ``shell`` is read and renewed. Raises
    ConfigError when bash refuses the file, takes too long, or leaves early.
    """
    # An array that a plain file assigned to in between got a new first element, as in bash.
    prelude = "".join(
        f"{name}={_quote(value)}\n"
        for name, value in variables.items()
        if is_name(name) and not is_shell_own(name) and shell.arrays.get(name) != value
    )
    records, errors, timed_out = _run(path, shell.state + prelude)
    result = _Result(records)
    problems = _problems_of_stderr(errors, path, text)
    problems += _spaced_equals(result, path, text)
    if timed_out:
        problems.append(Problem(f"bash did not finish reading it within {TIME_LIMIT:g} seconds", path=path))
    elif not result.ended and not problems:
        problems.append(_early_end(errors, path, text))
    if problems:
        raise ConfigError(problems)
    shell.state = "\n".join([*result.state, ""])
    shell.arrays = result.arrays
    shell.unset = {name for name in variables if name not in result.found and not is_shell_own(name)}
    last = _last_assignments(path, text)
    return {
        name: last[name].with_text(value) if name in last else Value(value, path)
        for name, value in result.found.items()
        if variables.get(name) != value or name in last
    }


def _spaced_equals(result: _Result, path: str, text: str) -> list[Problem]:
    """``NAME = value`` is a command to bash; it was not found, and its first parameter is ``=``."""
    return [
        _at(
            path, text, int(line), "no blanks around '='", f"write {name}='...' without blanks beside the '='"
        )
        for name, parameter, line in result.missing
        if parameter.startswith("=") and line.isdigit()
    ]


def _run(path: str, prelude: str) -> tuple[list[tuple[str, str, str, str]], str, bool]:
    """Run bash; the records that it wrote, its standard error, and whether it ran out of time."""
    import signal
    import subprocess

    result = os.memfd_create("netns-result", os.MFD_CLOEXEC)
    errors = os.memfd_create("netns-errors", os.MFD_CLOEXEC)
    source = os.memfd_create("netns-prelude", os.MFD_CLOEXEC)
    timed_out = False
    try:
        data = prelude.encode()
        while data:
            data = data[os.write(source, data) :]
        process = subprocess.Popen(
            [
                BASH,
                "--norc",
                "--noprofile",
                "-c",
                _DRIVER,
                "bash",
                f"/proc/self/fd/{source}",
                path,
                str(result),
            ],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env={"PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8"},
            cwd="/",
            pass_fds=(result, source),
            start_new_session=True,
        )
        try:
            process.wait(TIME_LIMIT)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            # Also what the file left running in the background.
            with _Ignore():
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output = _content(errors)
        if output:
            with _Ignore():
                os.write(2, output)
        fields = _content(result).decode("utf-8", "replace").split("\0")
        count = len(fields) // 4
        records = [
            (fields[4 * i], fields[4 * i + 1], fields[4 * i + 2], fields[4 * i + 3]) for i in range(count)
        ]
        return records, output.decode("utf-8", "replace"), timed_out
    finally:
        for descriptor in (result, errors, source):
            os.close(descriptor)


class _Ignore:
    """Ignore OSError: contextlib costs more than it saves here."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        return isinstance(error, OSError)


def _content(descriptor: int) -> bytes:
    """All that was written to a memfd, whatever its offset; cut at 16 MiB."""
    size = min(os.fstat(descriptor).st_size, 1 << 24)
    return os.pread(descriptor, size, 0)


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _problems_of_stderr(errors: str, path: str, text: str) -> list[Problem]:
    """bash's own messages about ``path`` that mean that the file was not read to its end."""
    problems = []
    start = f"{path}: line "
    for message in errors.splitlines():
        if not message.startswith(start):
            continue
        number, _, rest = message[len(start) :].partition(": ")
        if not number.isdigit() or rest.startswith("`"):  # the line after a syntax error shows the source
            continue
        if not rest.startswith(("syntax error", "unexpected EOF")):
            continue
        problems.append(_at(path, text, int(number), f"bash: {rest}", ""))
    return problems


def _early_end(errors: str, path: str, text: str) -> Problem:
    """bash left before the end of the file: its last words about the file tell why, ``${X:?}`` for one."""
    hint = "a configuration file may not exit or exec"
    start = f"{path}: line "
    for message in reversed(errors.splitlines()):
        number, _, rest = message.removeprefix(start).partition(": ")
        if message.startswith(start) and number.isdigit():
            return _at(path, text, int(number), f"bash ended here: {rest}", hint)
    return Problem("bash ended while reading it", path=path, hint=hint)


def _at(path: str, text: str, line: int, message: str, hint: str) -> Problem:
    lines = text.split("\n")
    source = lines[line - 1] if 0 < line <= len(lines) else ""
    column = len(source) - len(source.lstrip()) + 1 if source.strip() else 0
    width = len(source.strip()) or 1
    return Problem(message, path=path, line=line, column=column, width=width, text=source, hint=hint)


def _last_assignments(path: str, text: str) -> dict[str, Value]:
    """Where each variable is last assigned, as far as the text shows: ``NAME=`` at the start of a word."""
    places = {}
    for number, source in enumerate(text.split("\n"), 1):
        if source.lstrip().startswith("#"):
            continue
        at = source.find("=")
        while at > 0:
            end = at - 1 if source[at - 1] == "+" else at
            start = end
            while start > 0 and source[start - 1] in NAME_CHARS:
                start -= 1
            name = source[start:end]
            if is_name(name) and (start == 0 or source[start - 1] in " \t;({&|"):
                width = max(1, len(source) - at - 1)
                places[name] = Value("", path, number, min(at + 2, len(source) or 1), source, width)
            at = source.find("=", at + 1)
    return places
