"""What the doctor finds in the way of a mapping: each time the mapping does not pass, the finding names
what it is, and after its command the mapping passes. Where it passes, nothing is found."""

from __future__ import annotations

import random
import select
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from netns_tools.host.docker import Container
from netns_tools.kernel import policyroute, sysctl
from netns_tools.kernel.nattable import OwnTable
from netns_tools.natmap import doctor
from netns_tools.natmap.doctor import Finding
from netns_tools.natmap.model import Desired, Dnat, Entry, Hairpin, Masquerade, PolicyRoute, Ports, Snat
from netns_tools.natmap.table import SKELETON, Observed, content
from tests.kernel.isolated import ip, isolated, nft
from tests.kernel.natrig import V4, V6, Addresses, Reached, Rig, set_sysctl

FAMILIES = pytest.mark.parametrize("at", [V4, V6], ids=["v4", "v6"])
PROTOCOLS = pytest.mark.parametrize("proto", ["tcp", "udp"])
VARIANTS = pytest.mark.parametrize("variant", ["nft", "legacy"])
SECONDS = 0.3

pytestmark = pytest.mark.skipif(shutil.which("iptables-legacy") is None, reason="iptables is not installed")

ONE = Ports(8080, 8080, 80)


def mapping(at: Addresses, proto: str = "tcp", **more: object) -> Dnat:
    given: dict[str, object] = {"host": at.public, "iface": "", "ports": ONE, "target": at.server} | more
    return Dnat(proto=proto, family=at.family, **given)  # type: ignore[arg-type]


class Patient:
    """A rig with a mapping, and with clients far behind wan0."""

    def __init__(self, *entries: Entry, proto: str = "tcp") -> None:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=60)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True, timeout=60)
        self.rig = Rig()
        self.proto = proto
        ip(f"route add default via {V4.client}", f"route add ::/0 via {V6.client}")
        set_sysctl("net/ipv4/conf/br0/route_localnet", "1")
        self.rig.listen("server", 80, proto)
        self.desired = Desired.of(entries)
        self.install()

    def install(self) -> None:
        observed = Observed({V4.server: V4.subnet, V6.server: V6.subnet}, frozenset(["br0"]))
        OwnTable(SKELETON).install(content(self.desired, observed))

    def findings(self) -> list[Finding]:
        return doctor.run(self.desired, None)

    def passes(self, at: Addresses, name: str = "client", address: str = "") -> bool:
        """Whether a connection really gets to the server by the mapping, and back."""
        found = self.rig.reach(name, address or at.public, 8080, self.proto)
        return found is not None and found.server == "server"

    def is_blocked(self, at: Addresses, name: str = "client", address: str = "") -> bool:
        """Whether nothing gets to the server. It is waited for shortly: a late one would be no proof."""
        kind = socket.SOCK_STREAM if self.proto == "tcp" else socket.SOCK_DGRAM
        with self.rig.inside(name):
            client = socket.socket(socket.AF_INET6 if at.family == 6 else socket.AF_INET, kind)
        with client:
            client.settimeout(SECONDS)
            try:
                client.connect((address or at.public, 8080))
                client.send(b"?")
                client.recv(1)  # nobody answers
            except OSError:
                pass
        ready = select.select([*self.rig._listening], [], [], 0)[0]
        return not ready

    def mend(self, finding: Finding) -> None:
        """Do what a finding says, in a shell as people do."""
        command = finding.command
        assert command, finding
        if command == "netns-natmap fwd":
            for key in sysctl.FORWARD.values():
                sysctl.write(key, "1")
        elif command == "netns-natmap reload":
            set_sysctl("net/ipv4/conf/br0/route_localnet", "1")
            self.install()
        elif command.startswith("netns-natmap policy-route "):
            words = command.split()
            given = dict(zip(words[2::2], words[3::2], strict=True))
            route = PolicyRoute(f"{given['--src-ip']}/32", given["--via"], int(given.get("--table", "100")))
            self.desired = self.desired.merge(Desired.of([route]))
            policyroute.apply(policyroute.plan([route], policyroute.observe([route.table])))
        else:
            subprocess.run(["sh", "-euc", command], check=True, timeout=60, capture_output=True)

    def check(self, at: Addresses, *parts: str, name: str = "client", address: str = "") -> Finding:
        """It is blocked; one finding has all these words; its command makes it pass, and then all is well."""
        assert self.is_blocked(at, name, address)
        found = self.findings()
        assert len(found) == 1, found
        for part in parts:
            assert part in f"{found[0].message} | {found[0].where} | {found[0].command}"
        self.mend(found[0])
        assert self.passes(at, name, address)
        assert self.findings() == []
        return found[0]


def filter_table(rules: str, hook: str = "forward", policy: str = "accept", priority: str = "0") -> None:
    nft(
        f"table inet site {{ chain {hook} {{ type filter hook {hook} priority {priority}; policy {policy};\n"
        f"{rules}\n}}; }}"
    )


# Nothing is found where all is well


@FAMILIES
@PROTOCOLS
@pytest.mark.parametrize("scope", ["addr", "if", "any"])
@isolated
def test_nothing_is_found_on_a_bare_machine(at: Addresses, proto: str, scope: str) -> None:
    host, iface = {"addr": (at.public, ""), "if": ("", "wan0"), "any": ("", "")}[scope]
    patient = Patient(mapping(at, proto, host=host, iface=iface), proto=proto)
    assert patient.passes(at)
    assert patient.findings() == []


HEALTHY = {
    "by state": "ct state vmap { established : accept, related : accept, invalid : drop }\n"
    "ct status dnat accept",
    "by mark": "ct mark and 0x00400000 == 0x00400000 accept",
    "by packet mark": "meta mark and 0x00400000 != 0 accept",
    "by link": 'ct state established,related accept\niifname "wan*" oifname { "br0", "br1" } accept',
    "by address": "ct state established accept\nip daddr 10.77.0.0/16 tcp dport { 22, 80-90 } accept\n"
    "ip6 daddr fd77:1::/64 meta l4proto tcp th dport 80 accept",
    "by concatenation": 'ct state established accept\niifname . tcp dport { "wan0" . 80 } accept',
    "by client": "ct state established accept\n"
    "ip saddr 198.51.100.0/24 accept\nip6 saddr 2001:db8:1::/64 accept",
    "by original port": "ct state established accept\nct original proto-dst 8080 accept",
    "by rate": "ct state established accept\nlimit rate 1000/second accept",
    "by jump": "ct state established accept\niifname vmap { wan0 : goto let, br0 : drop }",
    "by inequality": "ct state established accept\ntcp dport != 81-65535 tcp dport > 79 accept",
}


@FAMILIES
@pytest.mark.parametrize("rules", [pytest.param(rules, id=name) for name, rules in HEALTHY.items()])
@isolated
def test_nothing_is_found_behind_a_firewall_that_lets_it_pass(at: Addresses, rules: str) -> None:
    patient = Patient(mapping(at))
    if "goto let" in rules:
        nft("table inet site { chain let { tcp dport 80 accept; }; }")
    if "original proto-dst" in rules:
        rules = rules.replace("ct original proto-dst", "meta l4proto tcp ct original proto-dst")
    filter_table(rules, policy="drop")
    assert patient.passes(at)
    assert patient.findings() == []


@VARIANTS
@FAMILIES
@isolated
def test_nothing_is_found_behind_iptables_that_let_it_pass(at: Addresses, variant: str) -> None:
    program = f"{'ip6' if at.family == 6 else 'ip'}tables-{variant}"
    patient = Patient(mapping(at))
    run(
        f"{program} -P FORWARD DROP",
        f"{program} -N LET",
        f"{program} -A LET -p tcp -m multiport --dports 22,80:90 -m comment --comment 'a b' -j ACCEPT",
        f"{program} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"{program} -A FORWARD -i lan+ -j DROP",
        f"{program} -A FORWARD ! -i lan+ -d {at.subnet} -j LET",
    )
    assert patient.passes(at)
    assert patient.findings() == []


@isolated
def test_nothing_is_found_where_a_firewall_decides_by_client() -> None:
    """Some pass and some do not, as somebody wanted it."""
    patient = Patient(mapping(V4))
    filter_table(f"ct state established accept\nip saddr {V4.client} accept", policy="drop")
    assert patient.passes(V4)
    assert patient.rig is not None
    assert patient.findings() == []


@isolated
def test_nothing_is_found_of_what_every_entry_needs() -> None:
    patient = Patient(
        mapping(V4, allow_from=("198.51.100.0/24",)),
        mapping(V4, host="", iface="", ports=Ports(9000, 9099, 9000)),
        mapping(V6, host="", iface="wan0", ports=Ports(9100, 9199, 9000)),
        Snat(V4.subnet, "far0", V4.gate),
        Masquerade(V6.subnet, "far0"),
        Hairpin(V4.public, V4.server, "tcp", Ports(8081, 8081, 80), ""),
    )
    filter_table("ct mark and 0x00400000 == 0x00400000 accept\nct state established accept", policy="drop")
    assert patient.passes(V4)
    assert patient.findings() == []


# Firewalls


@FAMILIES
@PROTOCOLS
@isolated
def test_a_policy(at: Addresses, proto: str) -> None:
    patient = Patient(mapping(at, proto), proto=proto)
    filter_table("ct state established,related accept\niifname br0 accept", policy="drop")
    patient.check(at, "table inet site, chain forward (policy drop)", "nft insert rule inet site forward")


@pytest.mark.parametrize(
    ("rule", "how"),
    [
        ("reject with icmpx admin-prohibited", "rejects"),
        ('iifname "wan0" oifname "br0" counter drop', "drops"),
        ("tcp dport vmap { 22 : accept, 80 : drop }", "drops"),
        ("ip daddr @bad jump bad", "drops"),
        ("meta mark 0x00400000 drop", "drops"),
    ],
)
@isolated
def test_a_rule(rule: str, how: str) -> None:
    patient = Patient(mapping(V4))
    nft(
        "table inet site { set bad { type ipv4_addr; flags interval; elements = { 10.77.0.0/16 } }\n"
        "chain bad { tcp dport 80-81 drop; }; }"
    )
    filter_table(rule)
    text = "tcp dport 80-81 drop" if "jump" in rule else rule.split(" vmap")[0]
    patient.check(V4, how, "table inet site, chain ", text)


@FAMILIES
@VARIANTS
@isolated
def test_iptables(at: Addresses, variant: str) -> None:
    program = f"{'ip6' if at.family == 6 else 'ip'}tables-{variant}"
    patient = Patient(mapping(at))
    run(
        f"{program} -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"{program} -A FORWARD -i br0 -j ACCEPT",
        f"{program} -P FORWARD DROP",
    )
    patient.check(at, f"{program}, table filter, chain FORWARD (policy drop)", f"{program} -I FORWARD")


@VARIANTS
@isolated
def test_a_rule_of_iptables(variant: str) -> None:
    patient = Patient(mapping(V4))
    run(
        f"iptables-{variant} -N SITE",
        f"iptables-{variant} -A FORWARD -j SITE",
        f"iptables-{variant} -A SITE -p tcp -m tcp --dport 80 -m comment --comment x -j REJECT",
    )
    patient.check(V4, "rejects", f"iptables-{variant}, table filter, chain SITE: -A SITE -p tcp", "-j REJECT")


@FAMILIES
@VARIANTS
@isolated
def test_docker(at: Addresses, variant: str) -> None:
    """What is done by hand then is the one rule that the mapper knows as its own."""
    from netns_tools.kernel import dockeruser
    from netns_tools.natmap.table import MARK

    program = f"{'ip6' if at.family == 6 else 'ip'}tables-{variant}"
    patient = Patient(mapping(at))
    run(
        f"{program} -P FORWARD DROP",
        f"{program} -N DOCKER-USER",
        f"{program} -A DOCKER-USER -j RETURN",
        f"{program} -A FORWARD -j DOCKER-USER",
        f"{program} -A FORWARD -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        f"{program} -A FORWARD -i br0 -j ACCEPT",
    )
    patient.check(at, f"{program}, table filter, chain FORWARD", f"{program} -I DOCKER-USER")
    assert all(dockeruser.accepts(chain, MARK) for chain in dockeruser.observe())


@isolated
def test_docker_with_nftables() -> None:
    patient = Patient(mapping(V4))
    nft(
        "table ip docker-bridges {\n"
        "map filter-forward-in-jumps { type ifname : verdict; elements = { br0 : jump in__br0 } }\n"
        "chain in__br0 { ct state established,related counter accept; iifname br0 counter accept;\n"
        'counter drop comment "UNPUBLISHED PORT DROP"; }\n'
        "chain filter-FORWARD { type filter hook forward priority filter; policy accept;\n"
        "oifname vmap @filter-forward-in-jumps; }\n}"
    )
    patient.check(
        V4, "table ip docker-bridges, chain in__br0", "UNPUBLISHED", "--bridge-accept-fwmark=0x400000"
    )


@isolated
def test_firewalld_that_is_strict() -> None:
    patient = Patient(mapping(V4))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc"], check=True, timeout=60)
    config = Path("/etc/firewalld/firewalld.conf")
    config.parent.mkdir()
    config.write_text("# comment\nStrictForwardPorts=yes\n")
    Path("/run/bin").mkdir()
    reload = Path("/run/bin/firewall-cmd")  # does what firewalld does then
    reload.write_text("#!/bin/sh\nnft insert rule inet firewalld filter_FORWARD ct status dnat accept\n")
    reload.chmod(0o755)
    nft(
        "table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10;\n"
        "ct state { established, related } accept; iifname lo accept; ct state invalid drop;\n"
        "reject with icmpx admin-prohibited; }; }"
    )
    with path("/run/bin"):
        found = patient.check(V4, "table inet firewalld, chain filter_FORWARD", "StrictForwardPorts=yes")
    assert "firewall-cmd --reload" in found.command
    assert "StrictForwardPorts=no" in config.read_text()


@pytest.mark.parametrize("priority", ["-350", "-150", "-110", "-90", "0"])
@isolated
def test_a_drop_before_routing(priority: str) -> None:
    patient = Patient(mapping(V4))
    before = int(priority) < -105
    filter_table(f"tcp dport {8080 if before else 80} drop", "prerouting", priority=priority)
    match = f"ip daddr {V4.public} tcp dport 8080 accept" if before else "ct mark"
    patient.check(V4, "table inet site, chain prerouting", match)


@isolated
def test_a_drop_at_the_link() -> None:
    patient = Patient(mapping(V4))
    nft(
        "table netdev site { chain c { type filter hook ingress device wan0 priority 0;\n"
        "tcp dport 8080 drop; }; }"
    )
    patient.check(V4, "table netdev site, chain c", "tcp dport 8080 accept")


@isolated
def test_a_drop_after_routing() -> None:
    patient = Patient(mapping(V4))
    filter_table("oifname br0 ct state new drop", "postrouting")
    patient.check(V4, "table inet site, chain postrouting")


@isolated
def test_all_firewalls_in_the_way_are_named() -> None:
    patient = Patient(mapping(V4))
    filter_table("ct state established accept", policy="drop")
    run("iptables-nft -A FORWARD -o br0 -j DROP")
    assert patient.is_blocked(V4)
    found = patient.findings()
    assert len(found) == 2
    for one in found:
        assert patient.is_blocked(V4)
        patient.mend(one)
    assert patient.passes(V4)
    assert patient.findings() == []


@VARIANTS
@isolated
def test_what_is_not_tracked(variant: str) -> None:
    patient = Patient(mapping(V4))
    run(f"iptables-{variant} -t raw -A PREROUTING -p tcp --dport 8080 -j CT --notrack")
    patient.check(V4, "not tracked", "table raw, chain PREROUTING", f"-I PREROUTING -d {V4.public} -p tcp")


@isolated
def test_a_table_that_translates_first() -> None:
    patient = Patient(mapping(V4))
    nft(
        "table ip early { chain pre { type nat hook prerouting priority -110;\n"
        f"tcp dport 8080 dnat to {V4.peer}:80; }}; }}"
    )
    patient.check(V4, "translates", "table ip early, chain pre", "dnat to")


@isolated
def test_a_table_that_only_its_program_can_change() -> None:
    patient = Patient(mapping(V4))
    text = "table inet site { flags owner; chain c { type filter hook forward priority 0; policy drop; }; }"
    with subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write(f"{text}\nlist tables\n")
        owner.stdin.flush()
        while "inet site" not in owner.stdout.readline():
            pass
        assert patient.is_blocked(V4)
        (found,) = patient.findings()
        assert "only the program that made" in found.message
        assert (found.where, found.command) == ("table inet site, chain c (policy drop)", "")
        owner.stdin.close()
        owner.wait(60)
    assert patient.passes(V4)


# Judged as the kernel does it

MATCHES = [
    "", 'iifname "wan0"', 'iifname != "wan*"', 'oifname "br*"', 'oifname { "br1", "br2" }', "tcp dport 80",
    "tcp dport != 80", "tcp dport { 22, 70-90 }", "tcp dport > 80", "tcp dport <= 80", "udp dport 80",
    f"ip daddr {V4.server}", "ip daddr != 10.77.0.0/16", f"ip daddr {V4.public}", "ip daddr @some",
    f"ip saddr {V4.client}", "ip saddr { 198.51.100.0/28, 10.0.0.0/8 }", "ip saddr != 198.51.100.0/24",
    "ip6 daddr != ::", "meta nfproto ipv4", "meta l4proto { tcp, udp }", "ip protocol udp",
    "ct state new", "ct state established,related", "ct state != new", "ct state { new, invalid }",
    "ct status dnat", "ct direction original", f"ct original ip daddr {V4.public}",
    "ct mark and 0x00400000 != 0", "ct mark 0x00400000", "meta mark and 0x00400000 == 0", "meta mark 0",
    'iifname . tcp dport { "wan0" . 80, "br0" . 22 }', "ip daddr . tcp dport { 10.77.1.10 . 81 }",
]  # fmt: skip
OPTIONS = [
    "", "-i wan0", "! -i wan+", "-o br+", "! -o br0", "-p tcp --dport 80", "-p tcp ! --dport 80",
    "-p tcp --dport 70:90", "-p tcp -m multiport --dports 22,70:90", "-p udp", "-d 10.77.0.0/16",
    "! -d 10.77.1.10/32", "-s 198.51.100.0/28", "! -s 198.51.100.10", "-m conntrack --ctstate NEW",
    "-m conntrack --ctstate RELATED,ESTABLISHED", "-m conntrack ! --ctstate NEW,INVALID",
    "-m state --state NEW", "-m conntrack --ctstate DNAT", "-m conntrack ! --ctstate DNAT,SNAT",
    "-m conntrack --ctstatus ASSURED",
    f"-m conntrack --ctorigdst {V4.public}", "-m connmark --mark 0x400000/0x400000",
    "-m connmark ! --mark 0x400000", "-m mark --mark 0x0/0x400000", "-m comment --comment x",
]  # fmt: skip
VERDICTS = ["accept", "drop", "reject", "return", "jump one", "goto one", "jump two", "counter"]
MAPS = ["tcp dport vmap { 22 : accept, 80 : %s }", "ct state vmap { established : accept, new : %s }",
        'iifname vmap { "lan1" : drop, "wan*" : %s }']  # fmt: skip


def nft_rules(dice: random.Random) -> str:
    """Somebody's firewall in nftables."""

    def rule() -> str:
        verdict = dice.choice(VERDICTS)
        if dice.random() < 0.2 and verdict not in ("reject", "counter"):
            return dice.choice(MAPS) % verdict
        return " ".join([*dice.sample(MATCHES, dice.choice([1, 1, 2])), verdict])

    text = f"set some {{ type ipv4_addr; flags interval; elements = {{ {V4.subnet} }}; }}\nchain two {{ }}\n"
    ends = [
        line for line in (rule() for _ in range(2)) if not line.endswith(("one", "two", "one }", "two }"))
    ]
    text += "chain one {\n" + "\n".join(ends) + "\n}\n"
    head = f"type filter hook forward priority 0; policy {dice.choice(['accept', 'drop'])};"
    rules = "\n".join(rule() for _ in range(dice.randint(1, 5)))
    return (
        f"table inet site {{\n{text}chain forward {{ {head}\nct state established accept\n{rules}\n}}\n}}\n"
    )


def iptables_rules(dice: random.Random) -> str:
    """The same in iptables."""

    def rule(chain: str, targets: list[str]) -> str:
        return f"-A {chain} {dice.choice(OPTIONS)} {dice.choice(targets)}"

    targets = ["-j ACCEPT", "-j DROP", "-j REJECT", "-j RETURN", "-j LOG", "-j CONNMARK --set-mark 0x0/0x1"]
    rules = [rule("ONE", targets) for _ in range(2)]
    rules += ["-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT"]
    rules += [rule("FORWARD", [*targets, "-j ONE", "-g ONE"]) for _ in range(dice.randint(1, 5))]
    heads = [f":FORWARD {dice.choice(['ACCEPT', 'DROP'])} [0:0]", ":ONE - [0:0]"]
    return "\n".join(["*filter", *heads, *rules, "COMMIT\n"])


def load(kind: str, dice: random.Random) -> str:
    """Have a firewall of random rules in the place of the one before; its text."""
    while True:
        rules = nft_rules(dice) if kind == "nft" else iptables_rules(dice)
        text = f"table inet site {{ }}\ndelete table inet site\n{rules}" if kind == "nft" else rules
        command = ["nft", "-f", "-"] if kind == "nft" else [f"{kind}-restore"]
        done = subprocess.run(command, input=text, text=True, timeout=60, capture_output=True, check=False)
        if done.returncode == 0:
            return rules
        assert "conflicting protocols" in done.stderr, f"{text}\n{done.stderr}"  # of two tests of a rule


@pytest.mark.parametrize("kind", ["nft", "iptables-nft", "iptables-legacy"])
@pytest.mark.parametrize("seed", range(4))
@isolated
def test_any_firewall(kind: str, seed: int) -> None:
    """Of a client that is known it can be told for sure: it is found what blocks it, or it passes."""
    patient = Patient(mapping(V4, allow_from=(f"{V4.client}/32",)))
    dice = random.Random(f"{kind} {seed}")
    outcomes = []
    for _ in range(12):
        rules = load(kind, dice)
        found = patient.findings()
        blocked = patient.is_blocked(V4) if found else not patient.passes(V4)
        # Where others set marks it cannot be told what else is in a mark.
        assert blocked == bool(found) or ("--set-mark" in rules and not found), f"{rules}\n{found}"
        if found:
            for one in found:
                patient.mend(one)
            assert patient.passes(V4), f"{rules}\n{found}"
            assert patient.findings() == [], rules
        outcomes.append(blocked)
    assert {*outcomes} == {True, False}


# Settings of the kernel


@FAMILIES
@isolated
def test_forwarding(at: Addresses) -> None:
    patient = Patient(mapping(at))
    key = sysctl.FORWARD[at.family]
    set_sysctl(key, "0")
    patient.check(at, f"sysctl {key.replace('/', '.')} = 0", "netns-natmap fwd")


@isolated
def test_forwarding_of_one_link() -> None:
    patient = Patient(mapping(V4))
    set_sysctl("net/ipv4/conf/wan0/forwarding", "0")
    patient.check(V4, "sysctl -w net.ipv4.conf.wan0.forwarding=1")


@pytest.mark.parametrize("where", ["all", "far0"])
@isolated
def test_strict_reverse_paths(where: str) -> None:
    """The second uplink: its answers would leave by the first one."""
    patient = Patient(mapping(V4, host=V4.gate))
    for name in ("all", "far0"):
        set_sysctl(f"net/ipv4/conf/{name}/rp_filter", "1" if name == where else "0")
    ip(f"route add default via {V4.far} table 100")
    with patient.rig.inside("far"):
        set_sysctl("net/ipv4/conf/all/arp_announce", "2")  # somebody far away does not ask for neighbours
        ip("addr add 203.0.113.77/32 dev lo", f"route add {V4.public} via {V4.gate} src 203.0.113.77")
        ip(f"route replace {V4.gate} dev eth0 src 203.0.113.77")
    shown = f"sysctl net.ipv4.conf.{where}.rp_filter = 1"
    patient.check(V4, shown, "answers would leave by wan0", name="far", address=V4.gate)


@isolated
def test_strict_reverse_paths_without_a_gateway() -> None:
    patient = Patient(mapping(V4, host=V4.gate))
    set_sysctl("net/ipv4/conf/far0/rp_filter", "1")
    ip("route add default dev far0 table 100")
    (found,) = patient.findings()
    assert found.command == "sysctl -w net.ipv4.conf.far0.rp_filter=2"
    patient.mend(found)
    assert patient.findings() == []


@isolated
def test_the_loopback_address() -> None:
    patient = Patient(mapping(V4, host=""))
    assert patient.passes(V4, "router", "127.0.0.1")
    set_sysctl("net/ipv4/conf/br0/route_localnet", "0")
    found = patient.check(V4, "127.0.0.1", "br0.route_localnet = 0", name="router", address="127.0.0.1")
    assert found.command == "netns-natmap reload"


# Links, targets, our own table


@isolated
def test_a_link_that_is_down() -> None:
    patient = Patient(mapping(V4))
    ip("link set br0 down")
    found = patient.check(V4, "link br0", "ip link set br0 up")
    assert V4.server in found.message


@isolated
def test_an_interface_of_a_mapping() -> None:
    patient = Patient(mapping(V4, host="", iface="wan0"), mapping(V4, host="", iface="wan7"))
    (found,) = patient.findings()
    assert (found.message, found.where) == ("there is no interface wan7", "link wan7")
    assert "--ext-if wan7" in found.entry


@isolated
def test_a_target_without_a_route() -> None:
    patient = Patient(mapping(V4))
    ip("route add unreachable 10.99.0.0/16")
    patient.desired = Desired.of([mapping(V4, target="10.99.0.1")])
    patient.install()
    (found,) = patient.findings()
    assert "no route to 10.99.0.1" in found.message


@isolated
def test_our_table() -> None:
    patient = Patient(mapping(V4))
    nft("flush ruleset")
    patient.check(V4, "table inet netns_natmap", "netns-natmap reload")
    nft(f"delete element inet netns_natmap addr4 {{ {V4.public} . tcp . 8080 }}")
    patient.check(V4, "not in our table", "netns-natmap reload")


@isolated
def test_a_hairpin_over_a_bridge() -> None:
    patient = Patient(Hairpin(V4.public, V4.server, "tcp", ONE, ""))
    assert patient.passes(V4, "server")
    assert patient.findings() == []
    ip("link set srv0 type bridge_slave hairpin off")
    patient.check(V4, "port srv0 of bridge br0", "hairpin on", name="server")


@isolated
def test_a_policy_route() -> None:
    patient = Patient(PolicyRoute(f"{V4.server}/32", V4.far, 100))
    found = patient.findings()
    assert len(found) == 3
    for one in found:
        patient.mend(one)
    assert patient.findings() == []
    shown = subprocess.run(
        ["ip", "route", "get", "192.0.2.9", "from", V4.server, "iif", "br0"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert f"via {V4.far}" in shown


# Listeners and containers


@isolated
def test_a_listener() -> None:
    patient = Patient(mapping(V4, host=""))
    program = "import socket, sys\ns = socket.create_server(('', 8080))\nprint('ready', flush=True)\n"
    program += "sys.stdin.read()"
    with subprocess.Popen(
        ["python3", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (found,) = patient.findings()
        assert found.where == "listener tcp *:8080"
        assert f"(pid {process.pid})" in found.message
        assert found.command.startswith(("kill ", "systemctl stop "))
        process.kill()
    assert patient.findings() == []
    assert patient.passes(V4)


@isolated
def test_listeners_that_are_not_in_the_way() -> None:
    """They have clients as before: by other addresses, by other links, or those who may not map."""
    patient = Patient(
        mapping(V4), mapping(V4, host="", ports=Ports(81, 81, 80), allow_from=("192.0.2.0/24",))
    )
    sockets = [socket.create_server(("", port)) for port in (8080, 81)]
    assert patient.findings() == []
    for one in sockets:
        one.close()


@isolated
def test_a_target_that_is_this_host() -> None:
    patient = Patient(mapping(V4, target=V4.lan))
    (found,) = patient.findings()
    assert "nobody listens" in found.message
    patient.rig.listen("router", 80)
    assert patient.findings() == []
    filter_table("ct state established accept", "input", "drop")
    (found,) = patient.findings()
    assert found.where == "table inet site, chain input (policy drop)"
    patient.mend(found)
    assert patient.rig.reach("client", V4.public, 8080) == Reached("router", 80, V4.client)
    assert patient.findings() == []


@isolated
def test_containers() -> None:
    patient = Patient(mapping(V4, target="", container="web"), mapping(V4))
    ours = Container("a" * 64, "web", (), True, "bridge", (("bridge", "", "2001:db8::2"),))

    def said(containers: tuple[Container, ...] | None) -> list[tuple[str, str]]:
        return [(one.message, one.command) for one in doctor.run(patient.desired, containers)]

    assert said(()) == [("container web does not run", "docker start web")]
    assert said((ours,)) == [("container web has no IPv4 address", "")]
    assert "Docker could not be asked" in said(None)[0][0]


@isolated
def test_commands_for_a_named_namespace() -> None:
    patient = Patient(mapping(V4))
    set_sysctl(sysctl.FORWARD[4], "0")
    filter_table("", policy="drop")
    found = doctor.run(patient.desired, None, name="blue")
    assert [one.command.partition(" nft")[0] for one in found] == [
        "netns-natmap --name blue fwd",
        "ip netns exec blue",
    ]


def run(*commands: str) -> None:
    """Run commands of a shell."""
    subprocess.run(["sh", "-euc", "\n".join(commands)], check=True, timeout=60, capture_output=True)


@contextmanager
def path(directory: str) -> Iterator[None]:
    """Have programs of a directory found first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{directory}:/usr/sbin:/usr/bin:/sbin:/bin")
        yield
