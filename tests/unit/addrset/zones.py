"""The zone that the tests of this folder vary."""

from __future__ import annotations

from netns_tools.addrset.config import Zone

WAN = Zone(
    name="wan",
    family="inet",
    table="filter",
    set4="wan_ips",
    set6="wan_ips6",
    own_table=False,
    networks=False,
    exclusive=True,
    temporary=False,
    require_up=False,
    interfaces=("wan0",),
    containers=(),
)
