"""The record of what we put into sets: what one writes the next one knows, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from netns_tools.addrset.record import Record
from netns_tools.kernel.nftset import LiveSet, SetId

ID = SetId("inet", "filter", "wan_ips")
LIVE = LiveSet(ID, "ipv4_addr", handles=(3, 7))


def test_the_next_one_knows(tmp_path: Path) -> None:
    path = str(tmp_path / "record")
    one = Record(path, 4)
    one.put(ID, (3, 7), frozenset({"192.0.2.1", "10.0.0.0/24"}))
    one.put(SetId("ip", "t", "empty"), (1, 1), frozenset())
    one.save()
    other = Record(path, 4)
    other.load()
    assert other.owned(ID, LIVE) == frozenset({"192.0.2.1", "10.0.0.0/24"})
    assert other.sets() == [ID, SetId("ip", "t", "empty")]
    assert other.owned(SetId("ip", "t", "empty"), LiveSet(ID, "", handles=(1, 1))) == frozenset()


def test_another_set_of_that_name_is_not_ours(tmp_path: Path) -> None:
    record = Record(str(tmp_path / "record"), 4)
    record.put(ID, (3, 7), frozenset({"192.0.2.1"}))
    assert record.owned(ID, LiveSet(ID, "ipv4_addr", handles=(4, 7))) is None
    assert record.owned(ID, None) is None
    record.save()
    elsewhere = Record(str(tmp_path / "record"), 5)
    elsewhere.load()
    assert elsewhere.sets() == []


def test_what_is_about_to_be_put_in_is_known_before(tmp_path: Path) -> None:
    """A line a change; and a set made anew, with other handles, has nothing of the old one."""
    path = tmp_path / "record"
    record = Record(str(path), 4)
    record.put(ID, (3, 7), frozenset({"192.0.2.1"}))
    record.add(ID, (3, 7), ["192.0.2.2"])
    before = path.stat().st_ino
    record.add(ID, (3, 7), ["192.0.2.3"])
    record.save(always=False)
    assert path.stat().st_ino == before
    assert known(path) == {"192.0.2.1", "192.0.2.2", "192.0.2.3"}
    record.put(ID, (3, 7), frozenset({"192.0.2.3"}))
    record.save()
    assert known(path) == {"192.0.2.3"}
    record.put(ID, (3, 8), frozenset())
    record.add(ID, (3, 8), ["192.0.2.9"])
    assert known(path, (3, 8)) == {"192.0.2.9"}
    record.remove()
    assert not path.exists()


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "record"
    record = Record(str(path), 4)
    record.put(ID, (3, 7), frozenset())
    for number in range(30_000):
        record.add(ID, (3, 7), [f"10.0.{number // 256}.{number % 256}"])
        record.save(always=False)
    assert path.stat().st_size < 1 << 19


def test_a_piece_of_a_line_is_believed_in_nothing(tmp_path: Path) -> None:
    """The disk was full, or the power went: 192.0.2.1 is not what was meant by 192.0.2.10."""
    path = tmp_path / "record"
    record = Record(str(path), 4)
    record.put(ID, (3, 7), frozenset({"192.0.2.7"}))
    record.add(ID, (3, 7), ["192.0.2.10"])
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert known(path) <= {"192.0.2.7", "192.0.2.10"}


def test_a_record_that_was_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "run" / "record"
    record = Record(str(path), 4)
    record.put(ID, (3, 7), frozenset({"192.0.2.1"}))
    record.save()
    shutil.rmtree(path.parent)
    record.add(ID, (3, 7), ["192.0.2.2"])
    assert known(path) == {"192.0.2.1", "192.0.2.2"}


def known(path: Path, handles: tuple[int, int] = (3, 7)) -> set[str]:
    """What the next one will believe to be ours."""
    record = Record(str(path), 4)
    record.load()
    return set(record.owned(ID, LiveSet(ID, "ipv4_addr", handles=handles)) or ())


@given(st.binary(max_size=300))
def test_garbage_is_nothing(content: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        head = b"# netns-tools: elements that netns-addrset put into sets; namespace 4\n"
        for text in (content, head + content):
            Path(file.name).write_bytes(text)
            record = Record(file.name, 4)
            record.load()
            for id in record.sets():
                assert record.owned(id, LIVE) is None or id.table
