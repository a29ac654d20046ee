"""Tables on disk and what is on its way there."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import StackError
from streams.errors import Fenced
from streams.state_folder import claim_folder
from streams.store import Aged, Mark, Place, Store
from streams.table import Flight, Partition

ONE, TEN = Place("requests", 1), Place("requests", 10)
FRESH = Mark(0, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


async def no_gap(place: Place, first: int, stop: int, epoch: int) -> set[bytes]:
    raise Fenced(f"{place} {first} {stop} {epoch}")


def partition(store: Store) -> Partition:
    return Partition(store, ONE, FRESH, 7, no_gap)


def test_writes_and_their_mark_outlive_the_process(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(ONE, [(b"a", b"1"), (b"b", b"2")], Mark(2, 5, 99))
    store.write(ONE, [(b"a", None)], Mark(3, 6, 100))
    store.close()
    again = Store(tmp_path)
    assert (again.get(ONE, b"a"), again.get(ONE, b"b"), again.mark(ONE)) == (None, b"2", Mark(3, 6, 100))
    again.close()


def test_partitions_are_apart(store: Store) -> None:
    store.write(ONE, [(b"a", b"1")], FRESH)
    store.write(TEN, [(b"a", b"10")], FRESH)
    store.clear(ONE)
    assert (store.get(ONE, b"a"), store.mark(ONE)) == (None, None)
    assert store.scan(TEN, b"", b"\xff", 9) == [(b"a", b"10")]


def test_a_folder_in_use_is_one_clear_sentence(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StackError, match="can't be opened"):
        Store(tmp_path)


def test_each_process_claims_a_folder_of_its_own(tmp_path: Path) -> None:
    with claim_folder(tmp_path) as first:
        with claim_folder(tmp_path) as second:
            assert (first.name, second.name) == ("0", "1")
        with claim_folder(tmp_path) as again:
            assert again == second
    with claim_folder(tmp_path) as after:
        assert after == first


async def test_what_departs_is_read_at_once_and_on_disk_when_it_has_landed(store: Store) -> None:
    table = partition(store)
    table.put(b"a", b"1")
    assert table.get(b"a") == b"1"
    flight = table.depart()
    assert flight is not None
    assert (table.get(b"a"), store.get(ONE, b"a")) == (b"1", None)
    await table.land(flight, 0, 1, 5)
    assert (table.get(b"a"), store.get(ONE, b"a"), store.mark(ONE)) == (b"1", b"1", Mark(1, 7, 5))
    assert table.depart() is None


async def test_flights_land_in_the_order_of_their_departure(store: Store) -> None:
    table = partition(store)
    flights = [fly(table, b"a", b"%d" % number) for number in range(3)]
    order: list[int] = []

    async def land(number: int) -> None:
        await table.land(flights[number], number, number + 1, 0)
        order.append(number)

    await asyncio.gather(*(land(number) for number in (2, 0, 1)))
    assert order == [0, 1, 2]
    assert (table.get(b"a"), store.get(ONE, b"a"), store.mark(ONE)) == (b"2", b"2", Mark(3, 7, 0))


def fly(table: Partition, key: bytes, value: bytes | None) -> Flight:
    table.put(key, value)
    flight = table.depart()
    assert flight is not None
    return flight


async def test_somebody_elses_writes_in_between_are_looked_at(store: Store) -> None:
    table = partition(store)
    with pytest.raises(Fenced, match="requests-1 0 4 7"):
        await table.land(fly(table, b"a", b"1"), 4, 5, 0)
    assert store.get(ONE, b"a") is None


KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
STEPS = st.lists(st.tuples(st.sampled_from(["put", "delete", "depart", "land"]), KEYS), max_size=30)


@given(steps=STEPS, most=st.integers(1, 6), start=KEYS)
@settings(max_examples=50, deadline=None)
async def test_it_reads_as_one_sorted_map(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes]], most: int, start: bytes
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    table, model, offset, flights = partition(store), dict[bytes, bytes](), 0, list[Flight]()
    for number, (step, key) in enumerate(steps):
        if step == "put":
            model[key] = b"%d" % number
            table.put(key, model[key])
        elif step == "delete":
            model.pop(key, None)
            table.put(key, None)
        elif step == "depart" and (flight := table.depart()):
            flights.append(flight)
        elif step == "land" and flights:
            await table.land(flights.pop(0), offset, offset + 1, 0)
            offset += 1
    expected = [(key, value) for key, value in sorted(model.items()) if start <= key < b"e"][:most]
    assert table.scan(start, b"e", most) == expected
    assert {key: table.get(key) for key in (b"a", b"b", b"c", b"d", b"e")} == {
        key: model.get(key) for key in (b"a", b"b", b"c", b"d", b"e")
    }
    store.close()


def test_entries_are_listed_by_age(tmp_path: Path) -> None:
    """The value says when, here."""
    store = Store(tmp_path, {"requests": int})
    assert store.write(ONE, [(b"b", b"20"), (b"a", b"30"), (b"c", None)], FRESH) == 20
    store.write(TEN, [(b"a", b"10")], FRESH)
    store.write(Place("tenants", 1), [(b"t", b"no number")], FRESH)
    assert store.aged(ONE, Aged(0, b""), 9) == [Aged(20, b"b"), Aged(30, b"a")]
    assert store.aged(ONE, Aged(20, b"b"), 9) == [Aged(30, b"a")]
    store.write(ONE, [(b"b", None)], FRESH, forget=[Aged(20, b"b")])
    assert store.aged(ONE, Aged(0, b""), 9) == [Aged(30, b"a")]
    store.clear(ONE)
    assert store.aged(ONE, Aged(0, b""), 9) == []
    assert store.aged(TEN, Aged(0, b""), 9) == [Aged(10, b"a")]
    store.close()


def test_tables_of_an_older_format_are_removed(tmp_path: Path) -> None:
    (tmp_path / "tables-v1").mkdir()
    (tmp_path / "tables-v1" / "CURRENT").write_text("MANIFEST")
    Store(tmp_path).close()
    assert [folder.name for folder in tmp_path.iterdir()] == ["tables-v2"]


HOUR_MS = 3_600_000


class Shelf:
    """A partition whose values are times, and what should be in it."""

    def __init__(self, store: Store) -> None:
        self.table = partition(store)
        self.model: dict[bytes, int] = {}
        self._offset = 0

    def put(self, key: bytes, born: int) -> None:
        self.model[key] = born
        self.table.put(key, b"%d" % born)

    def delete(self, key: bytes, _: int) -> None:
        self.model.pop(key, None)
        self.table.put(key, None)

    async def fly(self) -> None:
        self.table.put(b"z", b"%d" % (10 * HOUR_MS))
        if flight := self.table.depart():
            await self.table.land(flight, self._offset, self._offset + 1, 0)
            self._offset += 1

    def keep(self, _: bytes, before: int) -> None:
        """A look that removes nothing."""
        self.table.aged(before, 3)

    def remove(self, _: bytes, before: int) -> None:
        for row in self.table.aged(before, 3):
            if self.model.get(row.key) == row.born:
                self.delete(row.key, 0)
            self.table.forget(row)


AGES = st.lists(
    st.tuples(st.sampled_from([Shelf.put, Shelf.delete, Shelf.keep, Shelf.remove, None]), KEYS, st.integers(1, 50)),
    max_size=40,
)


@given(steps=AGES)
@settings(max_examples=50, deadline=None)
async def test_what_is_old_is_found_an_hour_later_whatever_was_written_or_kept_meanwhile(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Callable[[Shelf, bytes, int], None] | None, bytes, int]]
) -> None:
    store = Store(tmp_path_factory.mktemp("store"), {"requests": int})
    shelf = Shelf(store)
    for step, key, born in steps:
        await shelf.fly() if step is None else step(shelf, key, born)
    await shelf.fly()
    for _ in range(20):
        shelf.remove(b"", HOUR_MS + 50)
    assert shelf.model == {}
    await shelf.fly()
    assert store.scan(ONE, b"", b"y", 9) == []
    assert store.aged(ONE, Aged(0, b""), 9) == [Aged(10 * HOUR_MS, b"z")]
    store.close()
