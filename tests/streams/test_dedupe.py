"""One run per key; whoever asks again joins it or gets its stored end."""

import orjson
import pytest

from contracts.bodies import describe
from contracts.duplicate import Duplicate
from contracts.envelope import RequestType
from contracts.frames import RequestState
from contracts.headers import RawHeaders
from contracts.outcomes import Outcome
from contracts.settings import Settings
from streams.entry import MAX_WAITERS
from streams.partition import partition_of
from tests.streams.actors import ask, body, finish, frames, text, usage_events, work_records
from tests.streams.world import Produced, World

HOUR_MS = 3_600_000


def admitted(world: World) -> list[Produced]:
    world.settle_down()
    return world.records("admitted")


def last_frame(world: World, topic: str = "responses") -> Produced:
    world.settle_down()
    return frames(world, topic)[-1]


def error_of(frame: Produced) -> dict[str, str]:
    error: dict[str, str] = orjson.loads(frame.value)["error"]
    return error


def test_a_request_goes_on_with_its_bytes_and_headers(world: World) -> None:
    asked = ask(world, "acme:k1", headers=[("user", b"ann"), ("traceparent", b"00-abc-def-01")], reply_to="responses/0")
    (record,) = admitted(world)
    assert (record.key, record.value) == (b"acme", asked.value)
    said = dict(record.headers)
    assert (said["user"], said["traceparent"], said["reply-to"]) == (b"ann", b"00-abc-def-01", b"responses/0")
    assert (said["request-key"], said["claim"]) == (b"acme:k1", b"0.0")
    assert int(said["accepted-at"]) == asked.timestamp
    assert said["fingerprint"].decode() == describe(asked.value).digest.fingerprint


def test_a_whole_digest_is_trusted_and_the_body_isnt_parsed(world: World) -> None:
    digest = describe(body()).digest.to_headers()
    ask(world, value=b"not parsed", headers=digest)
    (record,) = admitted(world)
    assert record.value == b"not parsed"


@pytest.mark.parametrize("missing", ["fingerprint", "stream", "prompt-estimate", "requested-model"])
def test_a_partial_digest_is_worth_nothing(world: World, missing: str) -> None:
    digest = [pair for pair in describe(body("other")).digest.to_headers() if pair[0] != missing]
    ask(world, value=body("mine"), headers=digest)
    (record,) = admitted(world)
    assert text(record, "fingerprint") == describe(body("mine")).digest.fingerprint
    assert [name for name, _ in record.headers].count("fingerprint") == 1


def test_what_later_stages_write_cant_be_forged(world: World) -> None:
    ask(world, headers=[("outcome", b"succeeded"), ("reserved-tokens", b"0"), ("started-at", b"x"), ("claim", b"9.9")])
    (record,) = admitted(world)
    names = [name for name, _ in record.headers]
    assert not {"outcome", "reserved-tokens", "started-at"} & set(names)
    assert names.count("claim") == 1


def test_the_bodys_attribution_fills_what_the_headers_leave_open(world: World) -> None:
    said_in_body = body(user="ben", metadata={"feature": "chat", "team": "care"})
    ask(world, value=said_in_body, headers=[("user", b"ann")])
    (record,) = admitted(world)
    said = dict(record.headers)
    assert (said["user"], said["feature"], said["tags"]) == (b"ann", b"chat", b"team=care")


def test_a_duplicate_in_flight_joins_and_is_answered(world: World) -> None:
    ask(world, reply_to="responses/0")
    ask(world, reply_to="responses.mine")
    (record,) = admitted(world)
    finish(world, work_records(world)[0])
    mine, first = last_frame(world, "responses.mine"), last_frame(world)
    assert record.value == body()
    assert text(mine, "kind") == text(first, "kind") == "final"
    assert mine.value == first.value
    assert text(mine, "in-reply-to") == ""


def test_a_duplicate_of_a_finished_request_gets_the_stored_bytes(world: World) -> None:
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0])
    original = last_frame(world)
    ask(world, ce_id="again")
    replay = last_frame(world)
    assert replay.value == original.value
    assert (text(replay, "in-reply-to"), text(replay, "replayed"), text(replay, "status")) == ("again", "1", "200")
    assert len(admitted(world)) == 1


def test_who_is_answered_without_a_run_is_counted(world: World) -> None:
    first = ask(world, headers=[("feature", b"chat")])
    joined = ask(world, headers=[("feature", b"chat")])
    world.settle_down()
    finish(world, work_records(world)[0])
    world.settle_down()
    replayed = ask(world)
    ask(world, value=body("another"))
    world.settle_down()
    told = [Duplicate.decode(record.value) for record in world.records(world.topics.duplicates)]
    [usage] = usage_events(world)
    assert usage.claim == f"{first.partition}.{first.offset}"
    places = [f"{record.partition}.{record.offset}" for record in (joined, replayed)]
    assert [(one.place, one.how) for one in told] == [(places[0], "joined"), (places[1], "replayed")]
    assert {(one.tenant, one.about) for one in told} == {("acme", usage.event_id)}
    assert [one.feature for one in told] == ["chat", ""]


def test_a_stored_failure_is_replayed_with_its_status(world: World) -> None:
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0], Outcome.FAILED)
    world.settle_down()
    ask(world)
    replay = last_frame(world)
    assert (text(replay, "kind"), text(replay, "status"), text(replay, "outcome")) == ("error", "500", "failed")


def test_the_same_key_with_another_body_is_422(world: World) -> None:
    ask(world, value=body("one"))
    ask(world, value=body("two"), ce_id="second")
    refusal = last_frame(world)
    assert (text(refusal, "status"), text(refusal, "in-reply-to")) == ("422", "second")
    assert error_of(refusal)["code"] == "idempotency_key_reused"
    assert len(admitted(world)) == 1


def test_an_asker_without_an_id_is_cited_by_its_place(world: World) -> None:
    ask(world, value=body("one"))
    second = ask(world, value=body("two"), ce_id="")
    assert text(last_frame(world), "in-reply-to") == f"{second.partition}.{second.offset}"


def test_what_was_turned_away_may_run_again(world: World) -> None:
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0], Outcome.REJECTED)
    world.settle_down()
    ask(world)
    assert [text(record, "claim") for record in admitted(world)] == ["0.0", "0.1"]


def test_after_the_window_a_key_runs_again(world: World) -> None:
    ask(world)
    world.settle_down()
    finish(world, work_records(world)[0])
    world.settle_down()
    window_ms = world.settings.idempotency_window_hours * HOUR_MS
    world.now += window_ms - 1
    ask(world)
    assert len(admitted(world)) == 1
    world.now += 1
    ask(world)
    assert len(admitted(world)) == 2


def test_too_many_waiters_are_told_so(world: World) -> None:
    for number in range(MAX_WAITERS + 2):
        ask(world, reply_to=f"responses.r{number}")
    refusal = last_frame(world, f"responses.r{MAX_WAITERS + 1}")
    assert (text(refusal, "status"), text(refusal, "retry-after-ms")) == ("429", "1000")


@pytest.mark.parametrize("kind", [RequestType.LOOKUP, RequestType.ATTACH])
def test_asking_after_an_unknown_key_is_404(world: World, kind: RequestType) -> None:
    ask(world, kind=kind, ce_id="who")
    refusal = last_frame(world)
    assert (text(refusal, "kind"), text(refusal, "status"), text(refusal, "in-reply-to")) == ("error", "404", "who")


@pytest.mark.parametrize("kind", [RequestType.LOOKUP, RequestType.ATTACH])
def test_state_of_a_request_in_flight(world: World, kind: RequestType) -> None:
    asked = ask(world, "acme:k1", reply_to="responses.first")
    ask(world, "acme:k1", kind=kind, ce_id="who")
    frame = last_frame(world)
    state = RequestState.model_validate_json(frame.value)
    assert (text(frame, "kind"), text(frame, "in-reply-to")) == ("state", "who")
    assert state == RequestState(id="k1", status="in_progress", model="small", created_at=asked.timestamp)


def test_only_who_attaches_is_told_the_end(world: World) -> None:
    ask(world, reply_to="responses.first")
    ask(world, kind=RequestType.LOOKUP, reply_to="responses.looker")
    ask(world, kind=RequestType.ATTACH, reply_to="responses.waiter")
    world.settle_down()
    finish(world, work_records(world)[0])
    assert text(last_frame(world, "responses.waiter"), "kind") == "final"
    assert text(last_frame(world, "responses.looker"), "kind") == "state"


@pytest.mark.parametrize("kind", [RequestType.LOOKUP, RequestType.ATTACH])
@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.REJECTED])
def test_state_of_a_finished_request_holds_its_answer(world: World, kind: RequestType, outcome: Outcome) -> None:
    ask(world)
    world.settle_down()
    ended = finish(world, work_records(world)[0], outcome)
    world.settle_down()
    ask(world, kind=kind)
    state = RequestState.model_validate_json(last_frame(world).value)
    stored = orjson.loads(ended.value)
    assert (state.status, state.model, state.finished_at) == (outcome, "small", world.now)
    assert (state.response, state.error) == ((stored, None) if outcome is Outcome.SUCCEEDED else (None, stored))


def test_a_record_on_the_wrong_partition_is_moved_once() -> None:
    world = World(Settings(request_partitions=4))
    home = partition_of(b"acme:k1", 4)
    away = (home + 1) % 4
    ask(world, "acme:k1", partition=away)
    (record,) = admitted(world)
    moved = world.logs["requests", home][0]
    assert text(moved, "moved") == "1"
    assert text(record, "claim") == f"{home}.0"
    ask(world, "acme:k2", partition=(partition_of(b"acme:k2", 4) + 1) % 4, headers=[("moved", b"1")])
    assert len(admitted(world)) == 1
    assert "Moved already" in text(world.records("dead-letters")[0], "dead-letter-reason")


DEEP = b'{"model":"small","prompt":"x","deep":' + b"[" * 400 + b"]" * 400 + b"}"
BAD_BODIES = {
    "not JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "empty": b"",
    "a list": b"[1]",
    "nested too deeply": DEEP,
    "no messages": b'{"model":"small"}',
    "a wrong type": b'{"model":"small","messages":"hello"}',
    "an unknown model": body(model="gpt-9"),
    "a feature that fits no header": body(metadata={"feature": "x" * 5000}),
    "a tag without a name": body(metadata={"": "x"}),
}
BAD_HEADERS: dict[str, RawHeaders] = {
    "an unknown type": [("ce_type", b"millrace.dance.v1")],
    "another tenant": [("tenant", b"umbrella")],
    "a reply topic that isn't one": [("reply-to", b"usage/0")],
    "a reply partition that isn't one": [("reply-to", b"responses/x")],
    "a bad lane": [("lane", b"fast")],
    "a bad deadline": [("deadline", b"tomorrow")],
    "not UTF-8": [("user", b"\xff")],
    "bad tags": [("tags", b"=x")],
    "a bad operation": [("operation", b"embed")],
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_explained_and_consumes_no_key(world: World, name: str) -> None:
    bad = ask(world, value=BAD_BODIES[name], ce_id="bad")
    refusal = last_frame(world)
    assert int(text(refusal, "status")) in (400, 404)
    assert (text(refusal, "kind"), text(refusal, "in-reply-to")) == ("error", "bad")
    (letter,) = world.records("dead-letters")
    assert (letter.key, letter.value) == (bad.key, bad.value)
    assert letter.headers[: len(bad.headers)] == bad.headers
    assert text(letter, "dead-letter-reason") == error_of(refusal)["message"]
    assert (text(letter, "dead-letter-topic"), text(letter, "dead-letter-offset")) == ("requests", "0")
    ask(world)
    assert len(admitted(world)) == 1


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_bad_header_is_explained_and_consumes_no_key(world: World, name: str) -> None:
    ask(world, headers=BAD_HEADERS[name], ce_id="bad")
    assert text(last_frame(world), "in-reply-to") == "bad"
    assert len(world.records("dead-letters")) == 1
    ask(world)
    assert len(admitted(world)) == 1


@pytest.mark.parametrize("key", ["", "no-tenant", ":k", "acme:", "ac me:k", "acme:with space", "acme:" + "k" * 256])
def test_a_key_that_names_nobody_rests_in_dead_letters(world: World, key: str) -> None:
    ask(world, key)
    world.settle_down()
    assert len(world.records("dead-letters")) == 1
    assert not frames(world)
    assert not world.records("admitted")
