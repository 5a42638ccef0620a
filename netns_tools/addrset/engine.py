"""Keeps the sets of one namespace equal to what they should hold.

``reconcile`` is the one writer: it reads what it does not know for certain, plans, and applies one
transaction a table. What others change in the meantime is told by the ruleset's monitor.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from netns_tools.addrset.plan import ERROR, OK, SetPlan, lines, plan_departure, plan_set
from netns_tools.addrset.wanted import Target, targets_of, wanted
from netns_tools.errors import NetnsToolsError
from netns_tools.kernel import nftset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from netns_tools.addrset.config import Settings
    from netns_tools.addrset.observed import Observed
    from netns_tools.addrset.record import Record
    from netns_tools.host.docker import Container
    from netns_tools.host.journal import Journal
    from netns_tools.kernel.nftmonitor import NftMonitor, Seen
    from netns_tools.kernel.nftset import LiveSet, Nft, SetId


_PASSES = 4  # of reading and writing, before the rest waits for the next time

_SHOWN = 8  # elements of a change in the log


@dataclass
class SetState:
    """How a set is: what it should hold, what it holds, and what is wrong."""

    target: Target
    state: str = OK
    error: str = ""
    hint: str = ""
    desired: frozenset[str] = frozenset()
    since: float = 0.0


class Engine:
    """The sets of the configuration, and those that have left it but still hold elements of ours."""

    def __init__(
        self, nft: Nft, monitor: NftMonitor, record: Record, observed: Observed, journal: Journal
    ) -> None:
        self.nft = nft
        self.monitor = monitor
        self.record = record
        self.observed = observed
        self.journal = journal
        self.states: dict[SetId, SetState] = {}
        self.live: dict[SetId, LiveSet | None] = {}
        self.containers: tuple[Container, ...] | None = None
        self.applies = 0
        self.errors = 0
        self.foreign_changes = 0
        self.repairs = 0  # of those, the ones after which a set was not as we had left it
        self.last_change = 0.0  # seconds since the epoch
        self.last_error = ""
        self.record_error = ""  # why what is ours is not written down
        self._stale: set[SetId] = set()
        self._unreadable: dict[SetId, str] = {}
        self._outdated = False  # the record lists what has been taken out

    def configure(self, settings: Settings) -> None:
        """Take these settings; the next ``reconcile`` applies them."""
        old = self.states
        self.states = {}
        for target in targets_of(settings):
            state = old.get(target.id) or SetState(target, since=time.time())
            state.target = target
            self.states[target.id] = state
        self.forget_all()

    def forget_all(self) -> None:
        """Read all sets again at the next ``reconcile``."""
        self._stale = {*self.states, *self.record.sets()}

    def notice(self, seen: Seen) -> bool:
        """Take in what the monitor saw others do; whether it concerns sets of ours."""
        if seen.lost:
            self.forget_all()
            return True
        touched = [id for id in {*self.states, *self.record.sets()} if (id.family, id.table) in seen.tables]
        self._stale.update(touched)
        self.foreign_changes += bool(touched)
        return bool(touched)

    def failed(self) -> bool:
        """Whether a set could not be made right, so that it is worth another try later."""
        return any(state.state == ERROR for state in self.states.values())

    def is_outrun(self) -> bool:
        """Whether others changed sets as fast as they were looked at: nothing more may tell of that."""
        return not self._stale.isdisjoint(self.states)

    def retry_failed(self) -> None:
        """Read the sets that failed again at the next ``reconcile``."""
        self._stale.update(id for id, state in self.states.items() if state.state == ERROR)

    # planning

    def plan(self) -> list[SetPlan]:
        """What is to be done to each set; reads those that are not known for certain."""
        self._read_stale()
        plans = []
        for id, state in self.states.items():
            want = wanted(state.target, self.observed, self.containers)
            state.desired = want.elements
            if id in self._unreadable:
                plans.append(SetPlan(id, ERROR, self._unreadable[id]))
                continue
            live = self.live.get(id)
            plans.append(plan_set(state.target, want, live, self.record.owned(id, live)))
        return plans + self._departures()

    def _departures(self) -> list[SetPlan]:
        plans = []
        for id in self.record.sets():
            if id in self.states or id in self._unreadable:
                continue
            live = self.live.get(id)
            owned = self.record.owned(id, live)
            if live is None or owned is None:
                self.record.forget(id)
            else:
                plans.append(plan_departure(live, owned))
        return plans

    def _read_stale(self) -> None:
        stale, self._stale = self._stale, set()
        for id in stale:
            self._unreadable.pop(id, None)
            try:
                before, now = self.live.get(id), self.nft.read(id)
                self.live[id] = now
                self.repairs += before is not None and not _is_alike(before, now)
            except NetnsToolsError as error:
                self.live.pop(id, None)
                self._unreadable[id] = error.message

    # applying

    def reconcile(self) -> None:
        """Make every set right, as far as that is possible now; what is wrong stands in ``states``."""
        self.notice(self.monitor.read())
        for _ in range(_PASSES):
            plans = self.plan()
            self._apply(plans)
            if not self._stale:
                break
        self.save(always=self._outdated)
        self._outdated = False

    def _apply(self, plans: list[SetPlan]) -> None:
        by_table: dict[tuple[str, str], list[SetPlan]] = {}
        for plan in plans:
            live = self.live.get(plan.id)
            if live is not None and plan.state == OK:
                self._remember(plan, live)
            if plan.commands:
                by_table.setdefault((plan.id.family, plan.id.table), []).append(plan)
            elif plan.id in self.states:
                self._judge(plan)
        for group in by_table.values():
            self._apply_table(group)
        for plan in plans:
            if plan.id not in self.states and plan.id not in self._stale:
                self._depart(plan)

    def _remember(self, plan: SetPlan, live: LiveSet) -> None:
        """Note what is ours; what is about to be put in is written down before that happens."""
        before = self.record.owned(plan.id, live)
        if not plan.commands or before is None:
            self.record.put(plan.id, live.handles, plan.owned if not plan.commands else frozenset())
        if plan.added:
            # Elements in a set with intervals are written together as others than they are listed as.
            elements = plan.added if plan.written is None else plan.owned
            self._write(lambda: self.record.add(plan.id, live.handles, elements))

    def _apply_table(self, plans: list[SetPlan]) -> None:
        """One transaction for all sets of a table; if it fails, one for each, so that one harms no other."""
        error = self._transact(plans)
        if not error:
            return
        for plan in plans:
            message = self._transact([plan]) if len(plans) > 1 else error
            if message:
                self.errors += 1
                self._retry(plan, message)

    def _transact(self, plans: list[SetPlan]) -> NetnsToolsError | None:
        """Apply, and see whether others changed something at the same time."""
        self.notice(self.monitor.read())
        try:
            self.nft.apply([command for plan in plans for command in plan.commands])
        except NetnsToolsError as error:
            return error
        seen = self.monitor.read()
        if seen.lost or seen.generations > 1:  # somebody else, at the same time
            self.notice(seen)
        self.applies += 1
        self.last_change = time.time()
        for plan in plans:
            self._applied(plan)
        return None

    def _applied(self, plan: SetPlan) -> None:
        live = self.live.get(plan.id)
        for line in lines(plan):
            self.journal.info(_shorten(line))
        if live is None or any("set" in _kind(command) for command in plan.commands):
            self._stale.add(plan.id)  # made by us: its handles are not known yet
        elif plan.written is not None:
            live.elements.clear()
            live.elements.update(plan.written)
        else:
            for text in plan.removed:
                live.elements.pop(text, None)
            live.elements.update((text, text) for text in plan.added)
        if live is not None and plan.id in self.states:
            self.record.put(plan.id, live.handles, plan.owned)
        if plan.id in self.states:
            # Somebody else may put the same element in later: then it must not be listed as ours.
            self._outdated |= bool(plan.removed) and not self.states[plan.id].target.zone.exclusive
            self._judge(plan)

    def _retry(self, plan: SetPlan, error: NetnsToolsError) -> None:
        """What we know of the set may be old: read it again, once; then the error stands."""
        state = self.states.get(plan.id)
        again = state is None or state.error != error.message
        if isinstance(error, nftset.NftError) and error.errno == "full" and plan.removed:
            again = self._make_room(plan) or again
        if state is not None:
            self._judge(SetPlan(plan.id, ERROR, error.message, error.hint))
        if again:
            self._stale.add(plan.id)

    def _make_room(self, plan: SetPlan) -> bool:
        """Take out what is too much, and nothing else: a full set has no place until that is done."""
        if plan.written is not None:
            return False
        try:
            self.nft.apply(nftset.delete_elements(plan.id, plan.removed))
        except NetnsToolsError:
            return False
        return True

    def _depart(self, plan: SetPlan) -> None:
        """A set that has left the configuration is empty of what was ours."""
        self.record.forget(plan.id)
        self.live.pop(plan.id, None)

    def _judge(self, plan: SetPlan) -> None:
        """Note how a set is now, and say so when that is news."""
        state = self.states[plan.id]
        if (state.state, state.error) != (plan.state, plan.error):
            state.since = time.time()
        state.state, state.error, state.hint = plan.state, plan.error, plan.hint
        if plan.state == ERROR:
            self.last_error = f"set {plan.id}: {plan.error}"
            text = f"set {plan.id} is not kept true: {plan.error}"
            self.journal.error(f"{text}; {plan.hint}" if plan.hint else text, subject=str(plan.id))
        elif plan.state != OK:
            self.journal.info(f"set {plan.id} waits: {plan.error}", subject=str(plan.id))
        else:
            self.journal.well(str(plan.id), f"set {plan.id} is kept true")

    def save(self, *, always: bool = True) -> None:
        """Write down what we put into sets."""
        self._write(lambda: self.record.save(always=always))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
            self.journal.well("record", f"{self.record.path} is written")
            self.record_error = ""
        except OSError as error:
            self.record_error = f"{self.record.path}: {error.strerror}"
            self.journal.error(
                f"cannot write down what we put into sets: {self.record.path}: {error.strerror}; "
                "the sets are kept true, but after a restart nobody knows what in them is ours",
                subject="record",
            )


def _is_alike(one: LiveSet, other: LiveSet | None) -> bool:
    """Whether it is the same set with the same elements."""
    return other is not None and one.handles == other.handles and one.elements.keys() == other.elements.keys()


def _kind(command: dict[str, object]) -> Iterable[str]:
    """What a command is about: ``element``, ``set``, ``table``."""
    body = next(iter(command.values()))
    return body.keys() if isinstance(body, dict) else ()


def _shorten(line: str) -> str:
    """A change as a line for the log; a long list of elements as its beginning and its length."""
    head, brace, rest = line.partition(" { ")
    elements = rest.removesuffix(" }").split(", ") if brace else []
    if len(elements) <= _SHOWN:
        return line
    return f"{head} {{ {', '.join(elements[:_SHOWN])}, ... }} ({len(elements)} elements)"
