"""The firewall of a namespace: rules that netns-nft-save saved, or the default ones."""

from __future__ import annotations

import posix

from netns_tools.errors import ConfigError, Problem
from netns_tools.steps.plan import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.config.layers import Config
    from netns_tools.paths import Paths


def rules_files(name: str, paths: Paths) -> list[str]:
    """The files that may hold the rules of a namespace; the first one that exists counts."""
    return [f"{paths.conf}/nft-{name}.rules", f"{paths.conf}/nft.rules"]


def plan(config: Config, paths: Paths) -> Plan:
    """Plan the restore: one transaction that replaces whatever rules there are.

    ``flush ruleset`` stands before the file even if the file says so itself:
    a restore never adds rules to rules, and the kernel swaps old for new at once.
    """
    from netns_tools.config.option import is_true
    from netns_tools.config.trust import check_file

    candidates = rules_files(config.name, paths)
    config.inputs.extend(candidates)
    rules = next((path for path in candidates if _exists(path)), None)
    if rules is None:
        raise ConfigError(
            [
                Problem(
                    "no firewall rules for this namespace",
                    path=candidates[0],
                    hint=f"write it, or restore the default {candidates[1]} (make install_configs)",
                )
            ]
        )
    problems = check_file(rules, paths)
    if problems:
        raise ConfigError(problems)
    result = Plan()
    result.add("up-inside.nft", "flush ruleset")
    result.add("up-inside.nft", f'include "{rules}"')
    if is_true(config.text("NFT_AUTO_SAVE")):
        result.add("down-inside.sh", f"netns-nft-save {config.name}", config.values.get("NFT_AUTO_SAVE"))
    return result


def _exists(path: str) -> bool:
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True
