"""Plans kept for the next start, each with the stamp of what it was made from.

A cached plan is one file: a version line, the input files, their stamp, and the
sections, closed by ``@ end``. ``lib/netnsinit`` compares the stamp with what ``stat`` says now. ctime
is part of it: it changes with every write, rename, chmod or chown and, unlike
mtime, cannot be set back.
"""

from __future__ import annotations

import posix

from netns_tools.config.layers import load_config
from netns_tools.steps.planner import plan_type

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.config.nstype import NsType
    from netns_tools.paths import Paths
    from netns_tools.steps.plan import Plan

VERSION = "netns-tools plan 1"

_TICK_NS = 20_000_000
"""Two writes within one tick of the kernel's clock can have one ctime: a file this young is not trusted."""


def stamp(inputs: list[str]) -> str:
    """The state of the input files in the words of netnsinit's ``stat`` call; a missing file has none."""
    parts = []
    for path in inputs:
        try:
            s = posix.stat(path)
        except OSError:
            continue
        seconds, nanoseconds = divmod(s.st_ctime_ns, 1_000_000_000)
        parts.append(
            f"{path}:{s.st_dev}:{s.st_ino}:{s.st_size}:{s.st_mode:x}:{s.st_uid}:{seconds}.{nanoseconds:09d};"
        )
    return "".join(parts)


def inputs_of(config: Config, paths: Paths) -> list[str]:
    """Every file whose change must lead to a new plan, this program included."""
    program = f"{paths.data}/netns_tools/__init__.py"
    return list(dict.fromkeys([*config.inputs, program]))


def render_cache(plan: Plan, inputs: list[str], stamped: str) -> str:
    """The text of a cached plan."""
    lines = [VERSION, " ".join(inputs), stamped]
    for name, content in plan.files.items():
        lines += [f"@ {name}", *content]
    lines.append("@ end")
    return "\n".join(lines) + "\n"


def make(nstype: NsType, name: str, paths: Paths) -> tuple[Config, Plan, str]:
    """Plan TYPE@NAME; the third value is the text to cache, or ``""`` when it may not be cached.

    Raises ``ConfigError`` with every problem of the configuration.
    """
    before = stamp(paths.layers(nstype.name, name))
    config = load_config(nstype, name, paths)
    plan = plan_type(config, paths)
    inputs = inputs_of(config, paths)
    stamped = stamp(inputs)
    settled = before == stamp(paths.layers(nstype.name, name)) and not _young(inputs)
    if config.volatile:
        settled = False
    # netnsinit splits the list of inputs at spaces.
    cacheable = settled and not any(c.isspace() for path in inputs for c in path)
    return config, plan, render_cache(plan, inputs, stamped) if cacheable else ""


def is_fresh(nstype: str, name: str, paths: Paths) -> bool:
    """Whether the cached plan was made from the files as they are now."""
    try:
        with open(paths.cached_plan(nstype, name), encoding="utf-8") as file:
            version, inputs, stamped = (file.readline().rstrip("\n") for _ in range(3))
    except (OSError, UnicodeDecodeError):
        return False
    return version == VERSION and stamped != "" and stamp(inputs.split(" ")) == stamped


def refresh(nstype: NsType, name: str, paths: Paths) -> Config:
    """Plan TYPE@NAME and cache the plan for its next start. Raises ``ConfigError``."""
    config, _, text = make(nstype, name, paths)
    store(text, nstype.name, name, paths)
    return config


def store(text: str, nstype: str, name: str, paths: Paths) -> None:
    """Put a cached plan in place, or take the old one away when ``text`` is empty; as well as possible.

    A cache that cannot be written (full disk, read-only /var) costs the next start
    15 ms and nothing else, so it is no error.
    """
    target = paths.cached_plan(nstype, name)
    temporary = f"{target}.{posix.getpid()}"
    try:
        if not text:
            posix.unlink(target)
            return
        _make_directory(paths.cache)
        _write(temporary, text)
        posix.rename(temporary, target)
    except OSError:
        try:  # noqa: SIM105 -- contextlib costs a start 2 ms
            posix.unlink(temporary)
        except OSError:
            pass


def write_run_plan(plan: Plan, nstype: str, name: str, paths: Paths) -> None:
    """Lay out the plan as files for the steps of this start. Raises ``OSError``."""
    directory = paths.run_plan(nstype, name)
    for file, lines in plan.files.items():
        _write(f"{directory}/{file}", "".join(line + "\n" for line in lines))


def _write(path: str, text: str) -> None:
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC
    with open(posix.open(path, flags, 0o644), "w", encoding="utf-8") as file:
        file.write(text)


def _make_directory(path: str) -> None:
    try:
        posix.mkdir(path, 0o755)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_directory(path.rpartition("/")[0])
        posix.mkdir(path, 0o755)


def _young(inputs: list[str]) -> bool:
    from time import time_ns

    limit = time_ns() - _TICK_NS
    for path in inputs:
        try:
            if posix.stat(path).st_ctime_ns > limit:
                return True
        except OSError:
            continue
    return False
