"""Any order of requests, duplicates, runs and crashes: accepted once, answered once, billed once."""

from collections import defaultdict
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.catalogue import Catalogue, load_catalogue
from contracts.duplicate import Duplicate
from contracts.envelope import RequestType
from contracts.limits import Limit
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from streams.entry import Entry
from streams.limits.account import Account, Whose
from streams.limits.bucket import MINUTE_MS
from streams.limits.history import History
from streams.records import Output
from streams.reservation import Hold, Reservation
from streams.tenants import Tenant, account_key, history_key
from tests.streams.actors import ask, body, cancel_on_control, finish, frames, leave, orders, text, work_records
from tests.streams.world import Produced, World
from tests.support import loads

KEYS = [f"acme:k{number}" for number in range(3)]
ADDRESSES = ["", "responses/0", "responses.mine"]
BODIES = [body("hello"), body("hello"), body("another")]
OUTCOMES = [Outcome.SUCCEEDED, Outcome.SUCCEEDED, Outcome.FAILED, Outcome.REJECTED, Outcome.CANCELLED]
LIMIT = 60  # tokens a minute: a few requests' worth
CALLERS = ["", "ann", "ben"]


class Story:
    """Time stands still, so what an account holds is what was reserved or used, to the token."""

    steps = 120
    bodies = BODIES

    def __init__(self, seed: int, catalogue: Catalogue | None = None) -> None:
        self.random = Random(seed)
        settings = Settings(request_partitions=2, tenant_partitions=1, tokens_per_minute=LIMIT)
        self.world = World(settings, catalogue=catalogue or load_catalogue())
        self._limit(LIMIT)
        self.asked: list[Produced] = []
        self.beats = 0

    def tell(self) -> None:
        happens = {self._post: 4, self._look: 1, self._give_up: 1, self._take: 12}
        happens |= {self._land: 10, self._run: 5, self._crash: 2, self._change: 1, self._redrive: 1, self._hear: 2}
        for step in self.random.choices([*happens], [*happens.values()], k=self.steps):
            step()
        self._end()

    def _post(self) -> None:
        key, value = self.random.choice(KEYS), self.random.choice(self.bodies)
        headers = [("caller", self.random.choice(CALLERS).encode()), ("user", b"ann")]
        if self.random.random() < 0.3:
            headers.append(("deadline", str(self.world.now + 2000).encode()))
        self.asked.append(ask(self.world, key, value, reply_to=self.random.choice(ADDRESSES), headers=headers))

    def _hear(self) -> None:
        """The worker is idle, or so busy that a near deadline can't be met, or dead."""
        self.beats += 1
        load = loads.lane(self.random.choice([0, 4, 40]))
        told = loads.record(loads.beat(self.world.now + self.beats, small=load))
        self.world.surroundings.apply([told if self.random.random() < 0.8 else (told[0], None)])

    def _give_up(self) -> None:
        key, way = self.random.choice(KEYS), self.random.choice(["cancel", "control", "hang up"])
        if way == "cancel":
            self.asked.append(ask(self.world, key, kind=RequestType.CANCEL, reply_to=self.random.choice(ADDRESSES)))
        elif way == "control":
            cancel_on_control(self.world, key)
        else:
            leave(self.world, self.random.choice(CALLERS), self.random.choice(["cancel", "drain", "detach"]), key)

    def _change(self) -> None:
        """Limits change while it all goes on; before and after a crash they may be others."""
        self._limit(self.random.choice([LIMIT // 2, LIMIT, LIMIT * 2]))

    def _limit(self, tokens: int) -> None:
        limits = [
            Limit(tenant="acme", tokens_per_minute=tokens, concurrent_requests=3),
            Limit(user="*", tokens_per_day=tokens * 2),
        ]
        self.world.policy.apply((limit.selector.encode(), limit.encode()) for limit in limits)

    def _redrive(self) -> None:
        """An operator lets a request run again that failed, perhaps one that was redriven already."""
        failed = [record for record in self.world.records("completions") if text(record, "outcome") == "failed"]
        if failed:
            chosen = self.random.choice(failed)
            (asked,) = (one for one in self.asked if f"{one.partition}.{one.offset}" == text(chosen, "claim"))
            headers = [("redrive", text(chosen, "claim").encode()), ("ce_id", f"again-{len(self.asked)}".encode())]
            kept = [pair for pair in asked.headers if pair[0] not in ("redrive", "ce_id", "caller")]
            self.asked.append(self.world.produce(Output("requests", asked.key, asked.value, [*kept, *headers])))

    def _look(self) -> None:
        kind = self.random.choice([RequestType.ATTACH, RequestType.LOOKUP])
        self.asked.append(ask(self.world, self.random.choice(KEYS), kind=kind, reply_to=self.random.choice(ADDRESSES)))

    def _take(self) -> None:
        waiting = [
            (stage.name, partition)
            for stage in self.world.stages.values()
            for partition in range(stage.partitions)
            if self.world.waiting(stage, partition)
        ]
        if waiting:
            self.world.take(*self.random.choice(waiting), self.random.randint(1, 3))

    def _land(self) -> None:
        if self.world.in_flight:
            self.world.land(self.random.choice(self.world.in_flight))

    def _run(self) -> None:
        work = work_records(self.world)
        if work:
            chosen = self.random.choice((self._unfinished() or work) if self.random.random() < 0.7 else work)
            finish(self.world, chosen, self.random.choice(OUTCOMES), completion_tokens=self.random.randint(0, 8))

    def _crash(self) -> None:
        luck = self.random.random()
        self.world.crash(lambda: self.random.random() < luck)

    def _end(self) -> None:
        self.world.settle_down()
        self._check_orders()
        while unfinished := self._unfinished():
            for work in unfinished:
                finish(self.world, work)
            self.world.settle_down()
        self._check_runs()
        self._check_answers()
        events = [UsageEvent.model_validate_json(value) for value in self._check_usage()]
        self._check_reservations(events)
        assert not self.world.records("dead-letters")
        self._check_duplicates(events)

    def _unfinished(self) -> list[Produced]:
        """What no worker has ended. The meter may have turned a claim away that it let through when it came again."""
        done = {text(record, "claim") for record in self.world.records("completions") if text(record, "run")}
        return [work for work in work_records(self.world) if text(work, "claim") not in done]

    def _check_runs(self) -> None:
        """What claimed a key went on to a worker, or was turned away: nothing hangs."""
        ended = {text(record, "claim") for record in self.world.records("completions")}
        assert {text(record, "claim") for record in self.world.records("admitted")} <= ended

    def _check_orders(self) -> None:
        """Whatever the owner of a key has ordered, the workers know while it isn't over."""
        told = orders(self.world)
        for partition in range(2):
            for value in self.world.tables["requests", partition].entries.values():
                entry = Entry.decode(value)
                assert entry.answer or entry.order is None or (entry.order, str(entry.claim)) in told

    def _check_answers(self) -> None:
        """Whoever asked was told the end; whoever was told one claim's end was told the same."""
        ends = [
            frame
            for topic in ("responses", "responses.mine")
            for frame in frames(self.world, topic)
            if text(frame, "kind") != "delta"
        ]
        for record in self.asked:
            assert any(_answers(frame, record) for frame in ends), record
        said: defaultdict[str, set[tuple[str, str, bytes]]] = defaultdict(set)
        for frame in ends:
            if text(frame, "kind") != "state" and text(frame, "claim"):
                said[text(frame, "claim")].add((text(frame, "kind"), text(frame, "status"), frame.value))
        assert all(len(different) == 1 for different in said.values()), said

    def _check_usage(self) -> set[bytes]:
        """One event per claim, byte for byte, and at most one of a key is kept as its answer."""
        by_id: defaultdict[str, set[bytes]] = defaultdict(set)
        kept: defaultdict[str, set[str]] = defaultdict(set)
        usage: defaultdict[str, set[str]] = defaultdict(set)
        for record in self.world.records("usage"):
            event = UsageEvent.model_validate_json(record.value)
            by_id[event.event_id].add(record.value)
            if event.kind is UsageKind.USAGE:
                usage[event.claim].add(event.event_id)
                if event.outcome.stored and event.outcome is not Outcome.FAILED:  # a failed one may be redriven
                    kept[event.idempotency_key].add(event.event_id)
            else:
                assert event.cost_nano == 0
        assert all(len(values) == 1 for values in by_id.values()), by_id
        assert all(len(ids) == 1 for ids in usage.values()), usage
        assert all(len(ids) == 1 for ids in kept.values()), kept
        return set.union(*by_id.values()) if by_id else set()

    def _check_duplicates(self, events: list[UsageEvent]) -> None:
        """Whoever is told of as spared asked once, and has a request that answered."""
        asked = {f"{record.partition}.{record.offset}" for record in self.asked}
        known = {event.event_id for event in events if event.kind is UsageKind.USAGE}
        for record in self.world.records("duplicates"):
            told = Duplicate.decode(record.value)
            assert told.place in asked
            assert told.about in known

    def _check_reservations(self, events: list[UsageEvent]) -> None:
        """Each reserved token was given back once: what every account holds is what was used, and counted."""
        table = self.world.tables["tenants", 0]
        reservations = [Reservation.decode(value) for key, value in table.entries.items() if key.startswith(b"r\0")]
        assert all(reservation.hold is not Hold.OPEN for reservation in reservations)
        billed = [event for event in events if event.kind is UsageKind.USAGE and event.outcome.billed]
        tokens = sum(event.prompt_tokens + event.completion_tokens for event in billed)
        nano = sum(event.cost_nano for event in billed)
        tenant = table.get(b"t\0acme")
        account = Tenant.decode(tenant).account if tenant else Account()
        per_minute, per_day, _, at_once, day_nano, month_nano = account.used
        assert (per_minute, per_day, at_once) == (tokens * MINUTE_MS, tokens, 0)
        assert (day_nano, month_nano) == (nano, nano)
        stored = table.get(account_key("acme", Whose(user="ann")))
        assert (Account.decode(stored).used[1] if stored else 0) == tokens
        counted = [_totals(table.get(history_key("acme", model))) for model in ("small", "large")]
        assert tuple(map(sum, zip(*counted, strict=True))) == (len(billed), tokens, nano)


def _answers(frame: Produced, asked: Produced) -> bool:
    """Meant for this asker alone, or for all who wait and told after it had asked."""
    address = text(asked, "reply-to").partition("/")[0] or "responses"
    if frame.key != asked.key or frame.topic != address:
        return False
    alone = text(frame, "in-reply-to")
    return alone == text(asked, "ce_id") if alone else frame.order > asked.order


def _totals(stored: bytes | None) -> tuple[int, int, int]:
    history = History.decode(stored) if stored else History()
    return history.requests, history.prompt + history.completion, history.cost_nano


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_crashes_each_request_is_answered_once_and_billed_once(seed: int) -> None:
    Story(seed).tell()
