"""Entries leave the table after their window, and nothing that happens afterwards can tell."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.envelope import Claim, RequestType
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from streams.entry import Answer, Entry, accepted_at
from streams.expiry import Behind, Expiry, Floor, Progress, behind
from streams.records import Record
from streams.stage import Keyed
from streams.state import OWN
from tests.streams.actors import ask, finish, text, usage_events, work_records
from tests.streams.test_crashes import Story
from tests.streams.world import START, MemoryState, World

HOUR_MS = 3_600_000
EXPIRY = Expiry(window_ms=24 * HOUR_MS, work_ms=72 * HOUR_MS)
LATER = START + 25 * HOUR_MS
CLAIMED = Entry("f" * 32, Claim(0, 4), START, START, "small", "")


def answered(outcome: Outcome = Outcome.SUCCEEDED, settled_by: str = "0.6") -> Entry:
    answer = Answer(outcome, 200, settled_by, START, "small", "run-1", 0, 0, 7, 0, 5, None, 9, "v1")
    return CLAIMED._replace(answer=answer, body=b"{}")


def behind_at(at: int, requests: int = 5, completions: int = 7) -> Behind:
    return Behind(requests, at, completions, at)


class TestOver:
    def test_an_answered_one_is_over_an_hour_after_its_window(self) -> None:
        assert not EXPIRY.over(answered(), behind_at(LATER))
        assert EXPIRY.over(answered(), behind_at(LATER + 1))

    def test_not_while_its_claim_or_its_outcome_may_be_read_again(self) -> None:
        assert not EXPIRY.over(answered(), behind_at(LATER + 1, requests=4))
        assert not EXPIRY.over(answered(), behind_at(LATER + 1, completions=6))

    def test_not_while_the_outcome_of_the_one_before_may_be_read_again(self) -> None:
        entry = answered()._replace(previous=answered(Outcome.REJECTED, "0.9"))
        assert not EXPIRY.over(entry, behind_at(LATER + 1, completions=9))
        assert EXPIRY.over(entry, behind_at(LATER + 1, completions=10))

    def test_an_unanswered_one_is_kept_as_long_as_its_work_may_wait_and_its_outcome_be_unread(self) -> None:
        gone = START + 73 * HOUR_MS
        assert not EXPIRY.over(CLAIMED, behind_at(gone - 1))
        assert EXPIRY.over(CLAIMED, behind_at(gone))
        assert not EXPIRY.over(CLAIMED, behind_at(gone, requests=4))
        assert not EXPIRY.over(CLAIMED, Behind(5, gone, 7, gone - 1))


class TestProgress:
    def test_only_what_kafka_has_counts(self) -> None:
        progress = Progress()
        progress.acknowledged(10, 500)
        progress.acknowledged(20, 400)
        progress.acknowledged(30, 900)
        progress.committed(9)
        assert (progress.offset, progress.at) == (0, 0)
        progress.committed(25)
        assert (progress.offset, progress.at) == (20, 500)
        progress.committed(30)
        assert (progress.offset, progress.at) == (30, 900)

    def test_both_sources_count(self) -> None:
        requests, completions = Progress(), Progress()
        requests.acknowledged(3, 900)
        requests.committed(3)
        assert behind(requests, completions) == Behind(3, 900, 0, 0)


def test_the_floor_never_falls() -> None:
    state = MemoryState()
    floor = Floor(state)
    assert not floor.reaches(Claim(0, 0))
    for offset in (5, 3):
        floor.raise_to(Claim(0, offset))
    assert [floor.reaches(Claim(0, offset)) for offset in (4, 5, 6)] == [True, True, False]


@given(
    fingerprint=st.text(st.characters(codec="utf-8"), min_size=32, max_size=32),
    claim=st.tuples(st.integers(0, 99), st.integers(0, 2**60)),
    accepted=st.integers(-1, 2**53),
    body=st.binary(),
)
def test_the_time_is_read_without_decoding(
    fingerprint: str, claim: tuple[int, int], accepted: int, body: bytes
) -> None:
    entry = Entry(fingerprint, Claim(*claim), accepted, 0, "small", "", body=body)
    assert accepted_at(entry.encode()) == max(0, accepted)
    with pytest.raises(ValueError, match="version 02"):
        accepted_at(b"\x02" + entry.encode()[1:])


def one_life(world: World, outcome: Outcome) -> tuple[Record, Record]:
    """A request and its end."""
    asked = ask(world, "acme:k1")
    world.settle_down()
    ended = finish(world, work_records(world)[0], outcome)
    world.settle_down()
    return Record(*asked[:-1], seen_at=START), Record(*ended[:-1], seen_at=START)


FIRST = Claim(0, 1)
CAN_BE_STORED = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.EXPIRED])


@settings(max_examples=200, deadline=None)
@given(outcome=CAN_BE_STORED, kind=st.sampled_from([*RequestType]), after_ms=st.integers(0, 3 * HOUR_MS))
def test_what_comes_is_decided_without_the_entry_as_with_it(outcome: Outcome, kind: RequestType, after_ms: int) -> None:
    """Whatever is younger than the window: requests of any kind, outcomes of this claim or another."""
    world = World(Settings(request_partitions=1, tenant_partitions=1))
    ask(world, "acme:k1", kind=RequestType.LOOKUP)
    asked, ended = one_life(world, outcome)
    assert asked.offset == FIRST.offset
    entries = world.tables["requests", 0].entries
    at = START + 24 * HOUR_MS + after_ms
    request = asked._replace(offset=50, timestamp=at, headers=[*asked.headers, ("ce_type", kind.encode())])
    again = ended._replace(offset=50, timestamp=at)
    removed = {OWN + b"floor": b"%d" % FIRST.offset}
    former, later = _of_claim(again, 0, START - 1), _of_claim(again, 7, at)
    for name, record in (("dedupe", request), ("settle", again), ("settle", former), ("settle", later)):
        with_it, without = (_decide(world, name, state, record) for state in (entries, removed))
        assert with_it == without


def _of_claim(ended: Record, offset: int, accepted: int) -> Record:
    claim = [("claim", b"0.%d" % offset), ("accepted-at", str(accepted).encode())]
    return ended._replace(headers=[*ended.headers, *claim])


def _decide(world: World, stage: str, entries: dict[bytes, bytes], record: Record) -> tuple[Any, Entry | None]:
    state = MemoryState(entries)
    batch = world.stages[stage].open(state)
    assert isinstance(batch, Keyed)
    outputs = batch.decide(record)
    stored = state.writes.get(b"acme:k1")
    after = Entry.decode(stored)._replace(previous=None) if stored else None
    return (
        outputs,
        after if after and after.claim.offset > FIRST.offset else None,
    )  # what is over may still be written to


class LongStory(Story):
    """Hours pass between the steps, and what is over leaves the table. Nothing else is different from a `Story`."""

    steps = 300

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.world = World(
            Settings(
                request_partitions=2,
                tenant_partitions=1,
                idempotency_window_hours=1,
                retention_hours=8,
                tokens_per_minute=10**9,
            )
        )

    def _land(self) -> None:
        super()._land()
        if self.random.random() < 0.25:
            self.world.now += self.random.randint(0, 80) * 60_000

    def _end(self) -> None:
        self.world.settle_down()
        self._check_bills()
        self._check_no_bill_is_missing()
        self._check_said_once()
        self._check_nothing_stays()
        assert not self.world.records("dead-letters")

    def _check_bills(self) -> None:
        """One bill per claim, the same bytes whenever it is published; two claims of a key are a window apart."""
        by_id: defaultdict[str, set[bytes]] = defaultdict(set)
        kept: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for record in self.world.records("usage"):
            event = UsageEvent.model_validate_json(record.value)
            by_id[event.event_id].add(record.value)
            if event.kind is UsageKind.WASTE:
                assert event.cost_nano == 0
            elif event.outcome.stored and event.outcome is not Outcome.FAILED:  # a failed one may be redriven
                kept[event.idempotency_key][event.claim] = event.accepted_at
        assert all(len(values) == 1 for values in by_id.values()), by_id
        for claims in kept.values():
            times = sorted(claims.values())
            assert all(later - earlier >= HOUR_MS for earlier, later in pairwise(times)), claims

    def _check_no_bill_is_missing(self) -> None:
        """Who ended in time is billed, unless its key was claimed anew after its window."""
        events = [UsageEvent.model_validate_json(record.value) for record in self.world.records("usage")]
        billed = {event.claim for event in events if event.kind is UsageKind.USAGE}
        newest: dict[str, Claim] = {}
        for record in self.world.records("admitted"):
            key, claim = text(record, "request-key"), Claim.parse(text(record, "claim"))
            newest[key] = max(claim, newest.get(key, claim))
        for record in self.world.records("completions"):
            in_time = record.timestamp < int(text(record, "accepted-at")) + 8 * HOUR_MS
            if in_time and str(newest[text(record, "request-key")]) == text(record, "claim"):
                assert text(record, "claim") in billed, record

    def _check_said_once(self) -> None:
        said: defaultdict[str, set[bytes]] = defaultdict(set)
        for topic in ("responses", "responses.mine"):
            for frame in self.world.records(topic):
                if text(frame, "claim") and text(frame, "kind") != "state":
                    said[text(frame, "claim")].add(frame.value)
        assert all(len(different) == 1 for different in said.values()), said

    def _check_nothing_stays(self) -> None:
        """After all windows, with a little traffic in each partition, only that traffic is left."""
        self.world.now += 10 * HOUR_MS
        for _ in range(3):
            before = len(work_records(self.world))
            for number in range(8):
                ask(self.world, f"acme:last-{number}")
            self.world.settle_down()
            for work in work_records(self.world)[before:]:
                finish(self.world, work)
            self.world.settle_down()
        left = {key for (table, _), state in self.world.tables.items() if table == "requests" for key in state.entries}
        assert left - {OWN + b"floor"} == {b"acme:last-%d" % number for number in range(8)}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_crashes_no_replay_and_no_late_outcome_finds_a_key_free_that_was_not(seed: int) -> None:
    LongStory(seed).tell()


def test_a_second_outcome_after_the_entry_is_gone_is_waste() -> None:
    world = World(Settings(request_partitions=1, tenant_partitions=1))
    one_life(world, Outcome.SUCCEEDED)
    first_run = work_records(world)[0]
    world.now += 26 * HOUR_MS
    for number in range(2):
        ask(world, f"acme:later-{number}")
        world.settle_down()
        finish(world, work_records(world)[-1])
        world.settle_down()
    assert b"acme:k1" not in world.tables["requests", 0].entries
    finish(world, first_run)
    world.settle_down()
    events = [event for event in usage_events(world) if event.idempotency_key == "k1"]
    assert [event.kind for event in events] == [UsageKind.USAGE, UsageKind.WASTE]


def test_an_outcome_that_may_be_read_again_finds_its_entry() -> None:
    """A request runs for longer than the window, ends, and the process dies before Kafka has its bill."""
    world = World(Settings(request_partitions=1, tenant_partitions=1, idempotency_window_hours=1))
    ask(world, "acme:k1")
    world.settle_down()
    long_run = work_records(world)[0]
    world.now += 3 * HOUR_MS
    ask(world, "acme:k2")
    world.settle_down()
    finish(world, work_records(world)[1])
    world.settle_down()
    finish(world, long_run)
    ask(world, "acme:k3")
    assert world.take("settle", 0, 1)
    assert world.take("dedupe", 0, 1)
    lands = iter([True, True])  # the changelog's two batches, and nothing else
    world.crash(lambda: next(lands, False))
    world.settle_down()
    events = [event for event in usage_events(world) if event.idempotency_key == "k1"]
    assert [event.kind for event in events] == [UsageKind.USAGE]
