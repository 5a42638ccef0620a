"""The links and addresses of a namespace, as netlink tells them, kept so that questions are cheap. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from netns_tools.kernel.address import Address, Link

    Key = tuple[int, int, bytes, int, bytes]


class _LinkAddresses:
    """The addresses of one link.

    Two prefixes may hold one host, and 10,000 addresses change one at a time: hosts are counted
    as addresses come and go. Of a (family, temporary), ``hosts`` maps a host to how often it is there.
    """

    __slots__ = ("by_key", "hosts")

    def __init__(self) -> None:
        self.by_key: dict[Key, Address] = {}
        self.hosts: dict[tuple[int, bool], dict[str, int]] = {}

    def put(self, address: Address) -> None:
        self.drop(address)
        self.by_key[address.key] = address
        if address.usable:
            counts = self.hosts.setdefault((address.family, address.temporary), {})
            counts[address.host] = counts.get(address.host, 0) + 1

    def drop(self, address: Address) -> None:
        old = self.by_key.pop(address.key, None)
        if old is not None and old.usable:
            counts = self.hosts[old.family, old.temporary]
            counts[old.host] -= 1
            if not counts[old.host]:
                del counts[old.host]


class Observed:
    """What is there. It receives what an address watch has to tell."""

    def __init__(self) -> None:
        self.links: dict[int, Link] = {}
        self.chosen: dict[tuple[str, ...], list[int]] = {}
        """Which links fit which patterns: for others to note, as long as no name changes."""
        self._addresses: dict[int, _LinkAddresses] = {}

    def put_link(self, link: Link) -> None:
        """A link is there, or is called or flagged otherwise."""
        old = self.links.get(link.index)
        if old is None or old.name != link.name:
            self.chosen.clear()
        self.links[link.index] = link

    def drop_link(self, index: int) -> None:
        """A link is gone, and its addresses with it."""
        self.chosen.clear()
        self.links.pop(index, None)
        self._addresses.pop(index, None)

    def put_address(self, address: Address) -> None:
        """An address is there, or has other flags."""
        self._addresses.setdefault(address.ifindex, _LinkAddresses()).put(address)

    def drop_address(self, address: Address) -> None:
        """An address is gone."""
        of_link = self._addresses.get(address.ifindex)
        if of_link is not None:
            of_link.drop(address)

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """Everything anew, after a dump."""
        self.chosen.clear()
        self.links = {link.index: link for link in links}
        self._addresses = {}
        for address in addresses:
            self.put_address(address)

    def hosts(self, index: int, family: int, *, temporary: bool) -> Collection[str]:
        """Usable addresses of a link, without prefix length; IPv6 temporary ones only if asked for."""
        of_link = self._addresses.get(index)
        if of_link is None:
            return ()
        lasting = of_link.hosts.get((family, False), {})
        if temporary and (family, True) in of_link.hosts:
            return lasting.keys() | of_link.hosts[family, True].keys()
        return lasting.keys()

    def networks(self, index: int, family: int, *, temporary: bool) -> Collection[str]:
        """The prefixes of the same addresses, ``10.0.0.0/24``."""
        of_link = self._addresses.get(index)
        if of_link is None:
            return ()
        return {
            address.network
            for address in of_link.by_key.values()
            if address.family == family and address.usable and (temporary or not address.temporary)
        }
