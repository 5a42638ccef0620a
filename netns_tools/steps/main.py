"""What netnsinit leaves to Python: a new plan, a failure to explain, a bash type, a release."""

from __future__ import annotations

import posix
import sys

from netns_tools import names
from netns_tools.errors import ConfigError, NetnsToolsError, Problem
from netns_tools.paths import Paths


def main(arguments: list[str]) -> int:
    """Do one of the jobs; return the exit status. No traceback reaches a user."""
    job, *rest = arguments
    paths = Paths()
    try:
        if job == "prepare":
            return prepare(rest[0], rest[1], paths)
        if job == "explain":
            from netns_tools.steps.explain import explain

            return explain(rest[0], rest[1], rest[2], int(rest[3]), paths)
        if job == "bash":
            from netns_tools.steps.types.bash import run

            return run(rest, paths.data, paths)
        if job == "release":
            from netns_tools.steps.release import release

            return release(rest[0], rest[1], rest[2] != "success", paths)
        if job == "sweep":
            from netns_tools.steps.sweep import sweep

            return sweep()
        if job == "refuse":
            raise ConfigError(_name_problems(rest[0], rest[1]))
        raise NetnsToolsError(f"unknown job {job!r}")
    except NetnsToolsError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # posix.strerror says "No space left on device" and the like; the file is named when there is one.
        about = f"{error.filename}: " if error.filename else ""
        print(f"error: {job} of {'@'.join(rest[:2])}: {about}{error.strerror}", file=sys.stderr)
        return 1
    except Exception as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
        print(
            f"error: {job} of {'@'.join(rest[:2])}: a defect of netns-tools, please report it:"
            f" {type(error).__name__}: {error} ({where})",
            file=sys.stderr,
        )
        return 1


def prepare(nstype: str, name: str, paths: Paths) -> int:
    """Plan TYPE@NAME for the start that is going on, and keep the plan for the next one."""
    from netns_tools.config.nstype import load_nstype, write_cache
    from netns_tools.steps import cache

    definition = load_nstype(nstype, paths)
    _, plan, text = cache.make(definition, name, paths)
    directory = paths.run_plan(nstype, name)
    for file in posix.listdir(directory):
        # Of a start by hand before; the plan is this start's alone.
        posix.unlink(f"{directory}/{file}")
    cache.write_run_plan(plan, nstype, name, paths)
    cache.store(text, nstype, name, paths)
    if not definition.cached:
        write_cache(paths)
    return 0


def _name_problems(nstype: str, name: str) -> list[Problem]:
    hint = "systemctl start netns-TYPE@NAME, for example netns-veth@demo"
    found = [names.nstype_problem(nstype), names.nsname_problem(name)]
    if name in names.RESERVED:
        found.append(f"{name!r} is the host's own namespace; no link is made for it")
    return [Problem(message, hint=hint) for message in found if message]
