"""Checks across instances: what is right in each file and still wrong together.

Pure: a ``Survey`` in, findings out; nothing is read, run or changed here. What one
configuration alone can tell (a missing prefix length, a multicast MAC address, a
misspelt option) is checked where it is loaded, by a start as well.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns_tools.check.survey import Finding, Survey


def check_survey(survey: Survey) -> list[Finding]:
    """All findings. A new check is a module here with a function ``check(survey)``, and its line here."""
    from netns_tools.check import addresses, devices, filenames, macs, namespaces, networkd, peers, rules

    return [
        *filenames.check(survey),
        *addresses.check(survey),
        *devices.check(survey),
        *macs.check(survey),
        *peers.check(survey),
        *namespaces.check(survey),
        *networkd.check(survey),
        *rules.check(survey),
    ]
