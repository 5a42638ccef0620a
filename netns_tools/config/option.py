"""Whether the value of an option is what its kind allows.

Everything that passes here may stand in a line of ``ip -batch``: each word is of
a set of characters without quotes, backslash, '#' and control characters.
"""

from __future__ import annotations

from netns_tools import names
from netns_tools.config import address
from netns_tools.config.address import Address
from netns_tools.errors import Problem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netns_tools.config.nstype import Option
    from netns_tools.config.value import Value

_WORD_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.:/_-+@%=")
_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = frozenset("0123456789")

# The loopback device, and two directories beside those of the devices in /proc/sys/net/*/conf.
_TAKEN_NAMES = ("lo", "all", "default")

_PROBLEMS_MAX = 20  # of one option: after so many the rest adds nothing

TRUE_WORDS = ("yes", "true", "1")
FALSE_WORDS = ("no", "false", "0")

_ADDRESS_FLAGS = ("home", "mngtmpaddr", "nodad", "optimistic", "noprefixroute", "autojoin")
_SCOPES = ("global", "site", "link", "host")
_ROUTE_TYPES = ("unicast", "local", "blackhole", "unreachable", "prohibit", "throw")
_ROUTE_NUMBERS = ("metric", "preference", "mtu", "advmss", "window", "hoplimit", "initcwnd", "initrwnd")
_ROUTE_WORDS = ("table", "proto", "scope", "tos", "dsfield", "realm", "congctl")


def check_value(option: Option, value: Value) -> list[Problem]:
    """What is wrong with a value that is set; warnings among them."""
    return _CHECKS[option.kind](option, value)


def is_true(text: str) -> bool:
    """The meaning of a value of kind bool that passed the check."""
    return text.lower() in TRUE_WORDS


def split_words(entry: str) -> list[str]:
    """The words of an entry of a list, separated by blanks and tabs."""
    return [word for word in entry.replace("\t", " ").split(" ") if word]


def strange_character(text: str) -> str:
    """The first character that no word of a list may hold, with its code for those that look like others."""
    for character in text:
        if character not in _WORD_CHARS and character not in " \t":
            return repr(character) if character.isascii() else f"{character!r} (U+{ord(character):04X})"
    return ""


# Names, numbers, words


def _check_ifname(option: Option, value: Value) -> list[Problem]:
    message = names.ifname_problem(value.text)
    if value.text in _TAKEN_NAMES:
        message = f"{value.text!r} is taken in every namespace"
    if not message:
        return []
    hint = "choose a shorter name" if len(value.text) > names.IFNAME_MAX else ""
    return [value.problem(f"{option.name}: {message}", hint=hint)]


def _check_ifprefix(option: Option, value: Value) -> list[Problem]:
    if not value.text:
        return []
    message = names.ifname_problem(value.text)
    return [value.problem(f"{option.name}: {message}")] if message else []


def _check_nsname(option: Option, value: Value) -> list[Problem]:
    if value.text in names.RESERVED:
        hint = f"leave {option.name} unset for the host's own"
        return [
            value.problem(
                f"{option.name}: {value.text!r} is reserved for the host's own namespace", hint=hint
            )
        ]
    message = names.nsname_problem(value.text)
    return [value.problem(f"{option.name}: {message}")] if message else []


def _check_mtu(option: Option, value: Value) -> list[Problem]:
    text = value.text
    if not text or len(text) > 6 or not _DIGITS.issuperset(text) or not 68 <= int(text) <= 65535:
        hint = "1500 is that of Ethernet"
        return [value.problem(f"{option.name}: {text!r} is no MTU: a number from 68 to 65535", hint=hint)]
    return []


def _check_choice(option: Option, value: Value) -> list[Problem]:
    if value.text in option.choices:
        return []
    message = f"{option.name}: {value.text!r} is not one of {', '.join(option.choices)}"
    hint = f"write {value.text.lower()}" if value.text.lower() in option.choices else ""
    return [value.problem(message, hint=hint)]


def _check_bool(option: Option, value: Value) -> list[Problem]:
    if value.text.lower() in TRUE_WORDS + FALSE_WORDS:
        return []
    return [value.problem(f"{option.name}: {value.text!r} is neither yes nor no")]


def _check_text(option: Option, value: Value) -> list[Problem]:
    if value.text.isprintable():
        return []
    return [value.problem(f"{option.name}: control characters are not allowed in {value.text!r}")]


# MAC addresses


def _check_mac(option: Option, value: Value) -> list[Problem]:
    return _mac_problems(option, value.text, value)


def _mac_problems(option: Option, text: str, place: Value) -> list[Problem]:
    parts = text.split(":")
    if len(parts) != 6 or not all(len(part) == 2 and _HEX.issuperset(part) for part in parts):
        hint = "six pairs of hexadecimal digits with colons, like 02:00:00:00:00:01"
        with_colons = text.replace("-", ":")
        if with_colons != text and not _mac_problems(option, with_colons, place):
            hint = f"write {with_colons}"
        return [place.problem(f"{option.name}: {text!r} is no MAC address", part=text, hint=hint)]
    first = int(parts[0], 16)
    if first & 1:
        mended = ":".join([f"{(first & 0xFE) | 2:02x}", *parts[1:]])
        message = (
            f"{option.name}: {text} is a multicast address (its first byte is odd); a device cannot have it"
        )
        return [place.problem(message, part=text, hint=f"write {mended}, or any even first byte")]
    if not any(int(part, 16) for part in parts):
        return [
            place.problem(
                f"{option.name}: the zero MAC address",
                part=text,
                hint="write 02:00:00:00:00:01 or leave it unset",
            )
        ]
    return []


# Lists


def _check_list(option: Option, value: Value) -> list[Problem]:
    """Every entry by itself, then what the kind demands of all of them together."""
    problems = []
    good: list[tuple[list[str], Value, str]] = []
    for entry, place in value.split():
        strange = strange_character(entry)
        if strange:
            hint = "typographic characters come from copying; type it anew" if "U+" in strange else ""
            problems.append(
                place.problem(f"{option.name}: {strange} is not allowed in {entry!r}", part=entry, hint=hint)
            )
            if len(problems) >= _PROBLEMS_MAX:
                return problems
            continue
        words = split_words(entry)
        found = _ENTRY_CHECKS[option.kind](option, words, place)
        problems += found
        if len(problems) >= _PROBLEMS_MAX:
            return problems
        if not any(problem.severity == "error" for problem in found):
            good.append((words, place, entry))
    problems += _together(option, good)
    return problems


def _together(option: Option, good: list[tuple[list[str], Value, str]]) -> list[Problem]:
    problems = []
    seen: set[object] = set()
    for words, place, entry in good:
        if option.kind == "routes":
            key: object = tuple(words)
        elif option.kind == "macs":
            key = words[0].lower()
        else:
            parsed = address.parse(words[1] if words[0] == "local" else words[0])
            assert parsed is not None  # the entry passed its check
            key = parsed.family if option.kind == "gateways" else (parsed.family, parsed.number)
        if key in seen and option.kind == "gateways":
            message = f"{option.name}: a second gateway for IPv{key}"
            hint = "one default gateway a family; further ones are routes with a metric"
            problems.append(place.problem(message, part=entry, hint=hint))
        elif key in seen:
            problems.append(place.problem(f"{option.name}: {words[0]} is given twice", part=entry))
        seen.add(key)
    return problems


def _check_mac_entry(option: Option, words: list[str], place: Value) -> list[Problem]:
    if len(words) > 1:
        hint = "separate MAC addresses by commas"
        return [
            place.problem(f"{option.name}: {' '.join(words)!r} is no MAC address", part=words[1], hint=hint)
        ]
    return _mac_problems(option, words[0], place)


def _not_an_address(option: Option, text: str, place: Value, what: str = "an address") -> list[Problem]:
    hint = ""
    parts = text.partition("/")[0].split(".")
    if len(parts) == 4 and all(_DIGITS.issuperset(part) and part for part in parts):
        if any(len(part) > 1 and part[0] == "0" for part in parts):
            hint = "numbers of an IPv4 address have no leading zeros"
        elif any(int(part[:9]) > 255 for part in parts):
            hint = "each number of an IPv4 address is at most 255"
    return [place.problem(f"{option.name}: {text!r} is not {what}", part=text, hint=hint)]


def _check_address_entry(option: Option, words: list[str], place: Value) -> list[Problem]:
    """``[local] ADDRESS[/PREFIX] [further words of ip address]``."""
    words = words[1:] if words[0] == "local" and len(words) > 1 else words
    parsed = address.parse(words[0])
    if parsed is None:
        return _not_an_address(option, words[0], place)
    problems = _host_problems(option, parsed, place)
    found, has_peer = _address_word_problems(option, parsed, words, place)
    problems += found
    if parsed.prefix < 0 and not has_peer and not problems:
        length = 24 if parsed.family == 4 else 64
        whole = parsed.bits
        message = f"{option.name}: {words[0]} has no prefix length; as /{whole} it reaches no neighbour"
        hint = f"write {words[0]}/{length} (or its real prefix length); /{whole} if that is what you want"
        problems.append(place.problem(message, part=words[0], hint=hint, severity="warning"))
    return problems


def _host_problems(option: Option, parsed: Address, place: Value) -> list[Problem]:
    """An address that no device can have."""
    text = parsed.text
    host = parsed.number & ~parsed.mask
    point_to_point = parsed.prefix < 0 or parsed.prefix >= parsed.bits - 1
    hint = ""
    if parsed.number == 0:
        reason = "is the unspecified address"
    elif parsed.is_multicast:
        reason = "is a multicast address"
    elif parsed.family == 4 and parsed.number == 0xFFFFFFFF:
        reason = "is the broadcast address"
    elif not point_to_point and host == 0:
        first = address.render(parsed.family, parsed.number + 1)
        reason, hint = "is the address of the network itself", f"its first host is {first}/{parsed.prefix}"
    elif not point_to_point and parsed.family == 4 and host == (1 << (32 - parsed.prefix)) - 1:
        last = address.render(4, parsed.number - 1)
        reason, hint = "is the broadcast address of its network", f"its last host is {last}/{parsed.prefix}"
    else:
        return []
    return [place.problem(f"{option.name}: {text} {reason}; a device cannot have it", part=text, hint=hint)]


def _address_word_problems(
    option: Option, parsed: Address, words: list[str], place: Value
) -> tuple[list[Problem], bool]:
    """The words of `ip address` after the address (ip-address(8)); whether a peer is among them."""
    problems: list[Problem] = []
    has_peer = False
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        if word in _ADDRESS_FLAGS:
            if parsed.family == 4 and word in ("nodad", "optimistic", "home", "mngtmpaddr"):
                problems.append(place.problem(f"{option.name}: {word!r} is for IPv6 only", part=word))
            continue
        if word not in _ADDRESS_ARGUMENTS:
            hint = "separate addresses by commas" if address.parse(word) else _suggest(word, _ADDRESS_WORDS)
            problems.append(place.problem(f"{option.name}: unknown word {word!r}", part=word, hint=hint))
            break
        if not rest:
            problems.append(place.problem(f"{option.name}: {word!r} needs a word after it", part=word))
            break
        argument = rest.pop(0)
        has_peer = has_peer or word == "peer"
        message = _ADDRESS_ARGUMENTS[word](parsed, argument)
        if message:
            problems.append(
                place.problem(f"{option.name}: {word} {argument}: {message}", part=f"{word} {argument}")
            )
    return problems, has_peer


def _same_family(parsed: Address, argument: str) -> str:
    other = address.parse(argument)
    if other is None:
        return "not an address"
    return "" if other.family == parsed.family else f"not of the same family as {parsed.text}"


def _broadcast(parsed: Address, argument: str) -> str:
    if parsed.family == 6:
        return "IPv6 has no broadcast"
    if argument in ("+", "-"):
        return ""
    other = address.parse(argument)
    if other is None or other.prefix >= 0:
        return "neither an address nor '+' nor '-'"
    return "" if other.family == 4 else "not an IPv4 address"


def _label(_parsed: Address, argument: str) -> str:
    return names.ifname_problem(argument.replace(":", "_"))


def _scope(_parsed: Address, argument: str) -> str:
    if argument in _SCOPES or _number(argument, 255):
        return ""
    return f"not one of {', '.join(_SCOPES)}"


def _lifetime(_parsed: Address, argument: str) -> str:
    return "" if argument == "forever" or _number(argument, 0xFFFFFFFF) else "neither seconds nor 'forever'"


def _metric(_parsed: Address, argument: str) -> str:
    return "" if _number(argument, 0xFFFFFFFF) else "not a number"


def _number(text: str, most: int) -> bool:
    return bool(text) and len(text) <= 10 and _DIGITS.issuperset(text) and int(text) <= most


def _suggest(word: str, known: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known words: {' '.join(known)}"


def _check_gateway_entry(option: Option, words: list[str], place: Value) -> list[Problem]:
    text = words[0]
    parsed = address.parse(text)
    if parsed is None:
        return _not_an_address(option, text, place)
    if parsed.prefix >= 0:
        bare = text.partition("/")[0]
        message = f"{option.name}: a gateway has no prefix length: {text}"
        return [place.problem(message, part=text, hint=f"write {bare}")]
    if len(words) > 1:
        hint = "separate gateways by commas; routes with more words go into the option for routes"
        return [place.problem(f"{option.name}: unknown word {words[1]!r}", part=words[1], hint=hint)]
    return _host_problems(option, parsed, place)


def _check_route_entry(option: Option, words: list[str], place: Value) -> list[Problem]:
    """``[TYPE] PREFIX|default [via ADDRESS] [dev DEVICE] [src ADDRESS] [metric N] ...`` (ip-route(8))."""
    rest = list(words)
    if rest[0] in _ROUTE_TYPES and len(rest) > 1:
        rest.pop(0)
    target = rest.pop(0)
    family = 0
    if target != "default":
        parsed = address.parse(target)
        if parsed is None:
            return _not_an_address(option, target, place, "a prefix (or 'default')")
        family = parsed.family
        if parsed.number & ~parsed.mask:
            network = f"{address.render(family, parsed.number & parsed.mask)}/{parsed.prefix}"
            message = f"{option.name}: {target} has bits outside its prefix; the kernel refuses such a route"
            return [place.problem(message, part=target, hint=f"write {network}")]
    while rest:
        word = rest.pop(0)
        if word == "onlink":
            continue
        if word not in _ROUTE_ARGUMENTS:
            hint = (
                "separate routes by commas"
                if address.parse(word)
                else _suggest(word, (*_ROUTE_ARGUMENTS, "onlink"))
            )
            return [place.problem(f"{option.name}: unknown word {word!r}", part=word, hint=hint)]
        if word == "via" and rest and rest[0] in ("inet", "inet6"):
            family = 4 if rest.pop(0) == "inet" else 6
        if word == "mtu" and rest and rest[0] == "lock":
            rest.pop(0)
        if not rest:
            return [place.problem(f"{option.name}: {word!r} needs a word after it", part=word)]
        argument = rest.pop(0)
        message, family = _route_argument(word, argument, family)
        if message:
            return [place.problem(f"{option.name}: {word} {argument}: {message}", part=f"{word} {argument}")]
    return []


def _route_argument(word: str, argument: str, family: int) -> tuple[str, int]:
    """What is wrong with an argument of a route, and the route's family so far (0: not known yet)."""
    if word in ("via", "src"):
        parsed = address.parse(argument)
        if parsed is None or parsed.prefix >= 0:
            return "not an address", family
        if family and parsed.family != family:
            return f"not an IPv{family} address as the rest of the route", family
        return ("", parsed.family) if word == "via" else ("", family)
    if word == "dev":
        return names.ifname_problem(argument), family
    if word == "pref":
        return ("" if argument in ("low", "medium", "high") else "not one of low, medium, high"), family
    if word in _ROUTE_NUMBERS:
        return ("" if _number(argument, 0xFFFFFFFF) else "not a number"), family
    return "", family


_ADDRESS_ARGUMENTS: dict[str, Callable[[Address, str], str]] = {
    "peer": _same_family,
    "broadcast": _broadcast,
    "brd": _broadcast,
    "anycast": _same_family,
    "label": _label,
    "scope": _scope,
    "metric": _metric,
    "valid_lft": _lifetime,
    "preferred_lft": _lifetime,
}
_ADDRESS_WORDS = (*_ADDRESS_ARGUMENTS, *_ADDRESS_FLAGS)
_ROUTE_ARGUMENTS = ("via", "dev", "src", "pref", *_ROUTE_NUMBERS, *_ROUTE_WORDS)

_ENTRY_CHECKS: dict[str, Callable[[Option, list[str], Value], list[Problem]]] = {
    "addresses": _check_address_entry,
    "gateways": _check_gateway_entry,
    "routes": _check_route_entry,
    "macs": _check_mac_entry,
}

_CHECKS: dict[str, Callable[[Option, Value], list[Problem]]] = {
    "ifname": _check_ifname,
    "ifprefix": _check_ifprefix,
    "nsname": _check_nsname,
    "mac": _check_mac,
    "mtu": _check_mtu,
    "choice": _check_choice,
    "bool": _check_bool,
    "text": _check_text,
    "addresses": _check_list,
    "gateways": _check_list,
    "routes": _check_list,
    "macs": _check_list,
}
