"""Port mappings as people write them: ``[HOST_IP:]PORT[-PORT]:TARGET:PORT[-PORT][/PROTO]``, and back.

What is in such a word, and every address, prefix and range of ports by itself, is read here; what a
whole entry must be made of is in ``fields``. All raise ``Refused``.
"""

from __future__ import annotations

from functools import lru_cache

from netns_tools.config import address
from netns_tools.config.address import Address
from netns_tools.config.keykind import shortened
from netns_tools.natmap.model import PORT_MAX, PROTOCOLS, Dnat, Ports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

DNAT_FORM = "[HOST_IP:]PORT[-PORT]:TARGET_IP[:PORT[-PORT]][/PROTO]"
CONTAINER_FORM = "[HOST_IP:]HOST_PORT[:[TARGET_IP:]TARGET_PORT][/PROTO]"

PROXY_HINT = "NAT cannot do this; systemd-socket-proxyd(8) can, behind a .socket unit with the host port"

_ANY = {4: "0.0.0.0", 6: "::"}
_MAPPED = 0xFFFF  # ::ffff:0:0/96, IPv4 addresses in the clothes of IPv6 (RFC 4291, 2.5.5.2)


class Refused(Exception):
    """A text that cannot be taken; ``part`` is the piece of it that is wrong."""

    def __init__(self, message: str, *, part: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.part = part
        self.hint = hint


# Addresses and prefixes


@lru_cache(maxsize=1 << 16)
def parse_address(text: str) -> Address:
    """An address without a prefix length; its ``text`` is canonical."""
    found = address.parse(text)
    if found is None or found.prefix >= 0:
        hint = "write one like 192.0.2.1 or 2001:db8::1"
        if found is not None:
            hint = f"write it without /{found.prefix}"
        elif text.startswith("[") and address.parse(text[1:-1]):
            hint = "without the brackets"
        raise Refused(f"{shortened(text)!r} is no address", part=text, hint=hint)
    if found.family == 6 and found.number >> 32 == _MAPPED:
        hint = f"write the IPv4 address: {address.render(4, found.number & 0xFFFFFFFF)}"
        raise Refused(f"{shortened(text)!r} is an IPv4 address written as IPv6", part=text, hint=hint)
    return Address(found.family, found.number, -1, address.render(found.family, found.number))


@lru_cache(maxsize=1 << 12)
def parse_network(text: str) -> Address:
    """A prefix, or an address as the prefix of only itself; its ``text`` is canonical, with the length."""
    found = address.parse(text)
    if found is None:
        hint = "write one like 192.0.2.0/24 or 2001:db8::/64"
        raise Refused(f"{shortened(text)!r} is no prefix", part=text, hint=hint)
    prefix = found.bits if found.prefix < 0 else found.prefix
    shown = address.render(found.family, found.number)
    whole = Address(found.family, found.number, prefix, f"{shown}/{prefix}")
    if found.number & whole.mask != found.number:
        network = address.render(found.family, found.number & whole.mask)
        hint = f"write {network}/{prefix} for the whole network, {shown} for the one address"
        raise Refused(f"{shortened(text)!r} has bits beyond its prefix length", part=text, hint=hint)
    return whole


def widest(networks: Iterable[Address]) -> tuple[str, ...]:
    """The texts of some prefixes, sorted, without those that are in another one: none of them overlap."""
    kept: list[Address] = []
    for network in sorted(networks, key=lambda one: (one.family, one.number, one.prefix)):
        if not (kept and kept[-1].contains(network)):
            kept.append(network)
    return tuple(network.text for network in kept)


def _is_loopback(found: Address) -> bool:
    return found.number >> 24 == 127 if found.family == 4 else found.number == 1


def _is_broadcast(found: Address) -> bool:
    return found.family == 4 and found.number == (1 << 32) - 1


def parse_target(text: str) -> Address:
    """The address of a server that connections can be sent on to."""
    found = parse_address(text)
    if _is_loopback(found):
        message = f"the target {found.text} is a loopback address, which nothing can be forwarded to"
        raise Refused(message, part=text, hint=f"let the server listen on another address too; {PROXY_HINT}")
    return parse_unicast(text)


def parse_unicast(text: str) -> Address:
    """The address of one host, by which others know it."""
    found = parse_address(text)
    if _is_loopback(found):
        raise Refused(f"{found.text} is a loopback address, which other hosts do not know", part=text)
    if found.number == 0 or found.is_multicast or _is_broadcast(found):
        raise Refused(f"{found.text} is no address of one host", part=text)
    if found.family == 6 and found.is_link_local:
        message = f"{found.text} is link-local: it has no meaning without an interface"
        raise Refused(message, part=text, hint="use a global or unique local address")
    return found


def parse_host(text: str) -> Address:
    """The address that connections come to; ``0.0.0.0`` and ``::`` stand for any local one."""
    found = parse_address(text)
    if found.family == 6 and _is_loopback(found):
        hint = f"127.0.0.1 works; {PROXY_HINT}"
        raise Refused("the kernel sends nothing from ::1 to another host", part=text, hint=hint)
    if found.is_multicast or _is_broadcast(found):
        raise Refused(f"the host address {found.text} is no address of one host", part=text)
    return found


def check_families(host: Address, target: Address) -> None:
    """Refuse to translate between IPv4 and IPv6."""
    if host.family != target.family:
        message = (
            f"{host.text} is IPv{host.family} and {target.text} is IPv{target.family}:"
            " addresses are translated within one family only"
        )
        raise Refused(message, part=target.text, hint=PROXY_HINT)


# Ports


def parse_proto(text: str) -> str:
    """``tcp`` or ``udp``, in whatever case."""
    if text.lower() not in PROTOCOLS:
        hint = "one mapping a protocol: write tcp or udp"
        raise Refused(f"{shortened(text)!r} is no protocol with a mapping", part=text, hint=hint)
    return text.lower()


def parse_port(text: str) -> int:
    """A port; 0 too."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 5 or (text[0] == "0" and text != "0"):
        raise Refused(f"{shortened(text)!r} is no port", part=text, hint=f"ports are 1 to {PORT_MAX}")
    if int(text) > PORT_MAX:
        raise Refused(f"port {text} is too high", part=text, hint=f"ports are 1 to {PORT_MAX}")
    return int(text)


def _parse_range(text: str) -> tuple[int, int]:
    first_text, dash, last_text = text.partition("-")
    first = parse_port(first_text)
    last = parse_port(last_text) if dash else first
    if last < first:
        hint = f"write {last}-{first}"
        raise Refused(f"the range {text} ends before it begins", part=text, hint=hint)
    if dash and first == 0:
        raise Refused("a range cannot begin with port 0", part=text)
    return first, last


def parse_ports(host: str, target: str = "", *, free: bool = False) -> Ports:
    """Host ports and where they go; without ``target`` they stay the same.

    ``free``: host port 0 is accepted and stands for one that is to be chosen.
    """
    first, last = _parse_range(host)
    if first == 0 and not free:
        hint = "name the port; only a command chooses a free one"
        raise Refused("host port 0 names no port", part=host, hint=hint)
    if not target:
        if first == 0:
            raise Refused("host port 0 needs the port of the target", part=host, hint="write 0:TARGET:PORT")
        return Ports(first, last, first)
    to, to_last = _parse_range(target)
    if to == 0:
        raise Refused("the port of the target cannot be 0", part=target)
    if to_last - to != last - first:
        message = f"{host} has {last - first + 1} ports and {target} has {to_last - to + 1}"
        if to == to_last and to + last - first <= PORT_MAX:
            hint = f"each port goes to one of its own: write {to}-{to + last - first}"
        else:
            hint = "both ranges must be of one length"
        raise Refused(message, part=target, hint=hint)
    return Ports(first, last, to)


def parse_host_port(text: str) -> tuple[int, str]:
    """``PORT[/PROTO]``: a mapped host port, and the protocol or "" when none is given."""
    port, slash, proto = text.partition("/")
    return _parse_mapped(port), parse_proto(proto) if slash else ""


def parse_remap(text: str) -> tuple[int, int]:
    """``OLD:NEW``: a mapped host port, and the one that takes its place, 0 for one to be chosen."""
    old, colon, new = text.partition(":")
    if not colon:
        raise Refused(f"{shortened(text)!r} is no remap", part=text, hint="write OLD:NEW, two host ports")
    return _parse_mapped(old), parse_port(new)


def _parse_mapped(text: str) -> int:
    port = parse_port(text)
    if port == 0:
        raise Refused("no mapping has host port 0", part=text)
    return port


def parse_port_list(entries: Iterable[str], *, free: bool = False) -> list[Ports]:
    """Entries like ``80``, ``9000-9100``, ``8080:80``, ``9500-9599:9000-9099``."""
    found: list[Ports] = []
    for entry in entries:
        host, colon, target = entry.partition(":")
        if colon and not target:
            raise Refused(f"{shortened(entry)!r} has no port behind the ':'", part=entry)
        ports = parse_ports(host, target, free=free)
        for other in found:
            if ports.first and ports.first <= other.last and other.first <= ports.last:
                message = f"{shortened(entry)!r} and {render_ports(other)!r} have a port in common"
                raise Refused(message, part=entry)
        found.append(ports)
    return sorted(found)


def render_ports(ports: Ports) -> str:
    """As an entry of a list of ports."""
    host, target = _range(ports.first, ports.count), _range(ports.to, ports.count)
    return host if ports.shift == 0 else f"{host}:{target}"


def _range(first: int, count: int) -> str:
    return f"{first}-{first + count - 1}" if count > 1 else str(first)


# Words


def parse_word(word: str, *, free: bool = False) -> Dnat:
    """``[HOST_IP:]PORT[-PORT]:TARGET[:PORT[-PORT]][/PROTO]``: a mapping to an address."""
    tokens, proto = _tokens(word, DNAT_FORM)
    kinds = _kinds(tokens, f"write {DNAT_FORM}; for a container: docker add NAME PORT")
    if kinds not in ("pa", "pap", "apa", "apap"):
        raise Refused(f"{shortened(word)!r} is no mapping", part=word, hint=f"write {DNAT_FORM}")
    host = parse_host(_bare(tokens.pop(0))) if kinds[0] == "a" else None
    ports = parse_ports(tokens[0], tokens[2] if len(tokens) == 3 else "", free=free)
    return _mapping(host, ports, parse_target(_bare(tokens[1])), proto)


def parse_container_word(word: str, container: str, *, free: bool = False) -> list[Dnat]:
    """``[HOST_IP:]PORT[-PORT][:[TARGET_IP:]PORT[-PORT]][/PROTO]``: a mapping to a container.

    Its address is not known here. Without HOST_IP there is one mapping for each family, with
    ``0.0.0.0`` or ``[::]`` it is for the one. With TARGET_IP it is a mapping to that address, which
    is none of a container.
    """
    tokens, proto = _tokens(word, CONTAINER_FORM)
    kinds = _kinds(tokens, f"write {CONTAINER_FORM}")
    if kinds not in ("p", "pp", "ap", "app", "pap", "apap"):
        raise Refused(f"{shortened(word)!r} is no mapping", part=word, hint=f"write {CONTAINER_FORM}")
    host = parse_host(_bare(tokens.pop(0))) if kinds[0] == "a" else None
    target = parse_target(_bare(tokens.pop(1))) if kinds.endswith("pap") else None
    ports = parse_ports(tokens[0], tokens[1] if len(tokens) == 2 else "", free=free)
    if target:
        return [_mapping(host, ports, target, proto)]
    families = [host.family] if host else [4, 6]
    name = host.text if host and host.number else ""
    return [Dnat(proto, name, "", ports, "", family, container=container) for family in families]


def _mapping(host: Address | None, ports: Ports, target: Address, proto: str) -> Dnat:
    if host:
        check_families(host, target)
    return Dnat(proto, host.text if host and host.number else "", "", ports, target.text, target.family)


def _tokens(word: str, form: str) -> tuple[list[str], str]:
    """The parts between the colons, and the protocol."""
    rest, slash, proto_text = word.partition("/")
    proto = parse_proto(proto_text) if slash else PROTOCOLS[0]
    tokens = []
    while True:
        if rest.startswith("["):
            inside, bracket, after = rest.partition("]")
            if not bracket or (after and after[0] != ":"):
                raise Refused(f"{shortened(rest)!r} has no ']' before a ':'", part=rest, hint=f"write {form}")
            token, colon, rest = f"{inside}]", after[:1], after[1:]
        else:
            token, colon, rest = rest.partition(":")
        tokens.append(token)
        if not colon:
            break
    if not all(tokens):
        hint = "IPv6 addresses stand in brackets, like [2001:db8::1]" if word.count(":") > 3 else ""
        raise Refused(f"{shortened(word)!r} is no mapping", part=word, hint=hint or f"write {form}")
    return tokens, proto


def _kinds(tokens: list[str], hint: str) -> str:
    """``a`` for each address, ``p`` for each port or range of ports."""
    kinds = ""
    for token in tokens:
        if "." in token or token[0] == "[":
            kinds += "a"
        elif token[0].isdecimal():
            kinds += "p"
        else:
            raise Refused(f"{shortened(token)!r} is neither a port nor an address", part=token, hint=hint)
    return kinds


def _bare(token: str) -> str:
    return token[1:-1] if token.startswith("[") else token


def render_word(dnat: Dnat) -> str:
    """The word of a mapping; ``parse_word`` or ``parse_container_word`` makes the same of it.

    A mapping to a container that any local address has is written for its one family. What stands
    beside the word (interface, masquerade, clients) is not in it.
    """
    host = dnat.host
    if dnat.container and not host:
        host = _ANY[dnat.family]
    parts = [render_address(host)] if host else []
    parts.append(_range(dnat.ports.first, dnat.ports.count))
    if not dnat.container:
        parts.append(render_address(dnat.target))
    parts.append(_range(dnat.ports.to, dnat.ports.count))
    return f"{':'.join(parts)}/{dnat.proto}"


def render_address(text: str) -> str:
    """An address as it stands beside a port."""
    return f"[{text}]" if ":" in text else text
