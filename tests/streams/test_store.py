"""Tables on disk and what is on its way there."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import StackError
from streams.errors import Fenced
from streams.state_folder import claim_folder
from streams.store import Mark, Place, Store
from streams.table import Flight, Partition

ONE, TEN = Place("requests", 1), Place("requests", 10)
FRESH = Mark(0, 0, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    yield store
    store.close()


async def no_gap(place: Place, first: int, stop: int, epoch: int) -> None:
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
