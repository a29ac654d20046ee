"""The first outcome wins, for everybody and for the bill."""

import orjson
import pytest

from contracts.completion import Completion
from contracts.envelope import Claim
from contracts.outcomes import Outcome
from contracts.prices import PriceTable, load_prices
from contracts.usage import UsageEvent, UsageKind, event_id
from streams.entry import Entry
from streams.expiry import Floor
from streams.records import Output, Record
from streams.settle import Settle
from tests.streams.actors import ask, finish, frames, text, usage_events, work_records
from tests.streams.world import START, MemoryState, Produced, World

UNTOUCHED = Floor(MemoryState())


def one_run(world: World, outcome: Outcome = Outcome.SUCCEEDED) -> Produced:
    ask(
        world, headers=[("user", b"ann"), ("feature", b"chat"), ("tags", b"team=care"), ("traceparent", b"00-ab-cd-01")]
    )
    world.settle_down()
    ended = finish(world, work_records(world)[0], outcome)
    world.settle_down()
    return ended


def test_the_final_frame_is_the_workers_answer(world: World) -> None:
    ended = one_run(world)
    (frame,) = frames(world)
    assert (frame.key, frame.value) == (b"acme:k1", ended.value)
    assert (text(frame, "kind"), text(frame, "status"), text(frame, "outcome")) == ("final", "200", "succeeded")
    assert (text(frame, "claim"), text(frame, "run"), text(frame, "model")) == ("0.0", text(ended, "run"), "small")
    assert (text(frame, "prompt-tokens"), text(frame, "completion-tokens")) == ("7", "5")


def test_the_usage_event_says_everything_that_a_bill_needs(world: World) -> None:
    ended = one_run(world)
    (event,) = usage_events(world)
    prices = load_prices()
    price = prices.find("small", "2.5", ended.timestamp)
    assert price is not None
    assert event.event_id == event_id("acme:k1", "0.0")
    assert (event.event_time, event.tenant, event.idempotency_key) == (ended.timestamp, "acme", "k1")
    assert (event.user, event.feature, event.tags, event.trace_id) == ("ann", "chat", {"team": "care"}, "ab")
    assert (event.model, event.model_version, event.route, event.worker) == ("small", "2.5", "named", "w1")
    assert (event.cost_nano, event.price_version) == (price.cost(7, 0, 5), prices.version)
    assert event.reserved_tokens == int(text(work_records(world)[0], "reserved-tokens"))


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_ran_for_the_caller_is_billed(world: World, outcome: Outcome) -> None:
    one_run(world, outcome)
    (event,) = usage_events(world)
    assert (event.cost_nano > 0) == outcome.billed
    (frame,) = frames(world)
    assert text(frame, "kind") == ("final" if outcome.answered else "error")


def test_a_second_outcome_is_waste(world: World) -> None:
    one_run(world)
    second = finish(world, work_records(world)[0])
    world.settle_down()
    first, waste = usage_events(world)
    assert (first.kind, waste.kind, waste.cost_nano) == (UsageKind.USAGE, UsageKind.WASTE, 0)
    assert waste.event_id == event_id("acme:k1", "0.0", f"{second.partition}.{second.offset}")
    assert waste.completion_tokens == 5
    assert len(frames(world)) == 1


def test_an_outcome_without_a_body_is_explained(world: World) -> None:
    ask(world)
    world.settle_down()
    work = work_records(world)[0]
    expired = Completion(outcome=Outcome.EXPIRED, status=504, finished_at=world.now)
    world.produce(Output("completions", work.key, b"", [*work.headers, *expired.to_headers()]))
    world.settle_down()
    (frame,) = frames(world)
    assert orjson.loads(frame.value)["error"]["code"] == "expired"


def test_the_answer_of_a_lost_claim_is_taken(world: World) -> None:
    """The table may lack the claim after a crash: its record comes again, and finds it finished."""
    asked = ask(world)
    world.settle_down()
    ended = finish(world, work_records(world)[0])
    fresh = World(world.settings)
    fresh.produce(Output("completions", ended.key, ended.value, ended.headers))
    fresh.settle_down()
    assert text(frames(fresh)[-1], "kind") == "final"
    fresh.produce(Output("requests", asked.key, asked.value, asked.headers))
    fresh.settle_down()
    assert not fresh.records("admitted")


@pytest.mark.parametrize("missing", ["outcome", "claim", "finished-at", "fingerprint"])
def test_a_completion_that_cant_be_understood_rests_in_dead_letters(world: World, missing: str) -> None:
    ask(world)
    world.settle_down()
    ended = finish(world, work_records(world)[0])
    broken = [pair for pair in ended.headers if pair[0] != missing]
    fresh = World(world.settings)
    fresh.produce(Output("completions", ended.key, ended.value, broken))
    fresh.settle_down()
    assert missing in text(fresh.records("dead-letters")[0], "dead-letter-reason")
    assert not fresh.records("usage")


def test_another_price_table_doesnt_change_what_was_published(world: World) -> None:
    ended = one_run(world)
    entry = Entry.decode(world.tables["requests", 0].entries[b"acme:k1"])
    dear = PriceTable(version="dear", prices=[load_prices().prices[0].model_copy(update={"input": 10**12})])
    again = Settle(world.topics, dear, 1).decide(UNTOUCHED, entry, Record(*ended[:-1], seen_at=START + 99))
    assert again.entry == entry
    assert again.outputs[-1].value == world.records("usage")[0].value


class TestClaimsFromBeforeACrash:
    """Outcomes of a claim that the entry doesn't know, or no longer."""

    def decide(self, world: World, claim: Claim, held: Entry) -> tuple[Entry | None, list[UsageEvent]]:
        ask(world)
        world.settle_down()
        work = work_records(world)[0]
        headers = [pair for pair in work.headers if pair[0] != "claim"]
        ended = finish(world, work._replace(headers=[*headers, ("claim", str(claim).encode())]))
        settle = Settle(world.topics, load_prices(), 1000)
        entry, outputs = settle.decide(UNTOUCHED, held, Record(*ended[:-1], seen_at=START))
        return entry, [UsageEvent.model_validate_json(out.value) for out in outputs if out.topic == "usage"]

    def held(self, world: World, outcome: Outcome | None) -> Entry:
        """The entry of claim 0.5, in flight or ended."""
        entry = Entry("f" * 32, Claim(0, 5), START, START, "small", "")
        if outcome is None:
            return entry
        other = World(world.settings)
        ask(other)
        other.settle_down()
        finish(other, work_records(other)[0], outcome)
        other.settle_down()
        ended = Entry.decode(other.tables["requests", 0].entries[b"acme:k1"])
        assert ended.answer is not None
        return entry._replace(answer=ended.answer._replace(settled_by="0.77"))

    @pytest.mark.parametrize("offset", [4, 6])
    def test_never_end_what_runs(self, world: World, offset: int) -> None:
        held = self.held(world, None)
        entry, (event,) = self.decide(world, Claim(0, offset), held)
        assert (entry, event.kind) == (held, UsageKind.WASTE)

    @pytest.mark.parametrize("offset", [4, 6])
    def test_never_replace_a_stored_answer(self, world: World, offset: int) -> None:
        held = self.held(world, Outcome.SUCCEEDED)
        entry, (event,) = self.decide(world, Claim(0, offset), held)
        assert (entry, event.kind) == (held, UsageKind.WASTE)

    def test_a_newer_one_takes_a_key_that_was_turned_away(self, world: World) -> None:
        held = self.held(world, Outcome.REJECTED)
        entry, (event,) = self.decide(world, Claim(0, 6), held)
        assert entry is not None
        assert (entry.claim, entry.previous, event.kind) == (Claim(0, 6), held, UsageKind.USAGE)

    def test_an_older_one_doesnt(self, world: World) -> None:
        held = self.held(world, Outcome.REJECTED)
        entry, (event,) = self.decide(world, Claim(0, 4), held)
        assert (entry, event.kind) == (held, UsageKind.WASTE)
