"""Those around the streams, played by hand: producers, workers, and whoever reads the frames."""

from itertools import count

import orjson

from contracts.cascade import Doubt
from contracts.completion import Completion, Escalation, FirstAnswer, FirstStands, Shadowed, ShadowWanted
from contracts.control import ControlType
from contracts.envelope import RequestType
from contracts.headers import RawHeaders
from contracts.kafka import header
from contracts.outcomes import Outcome
from contracts.usage import UsageEvent
from streams.records import Output
from tests.streams.world import Produced, World

_numbers = count(1)


def body(content: str = "hello", *, model: str = "small", max_tokens: int | None = 10, **fields: object) -> bytes:
    asked: dict[str, object] = {"model": model, "messages": [{"role": "user", "content": content}]}
    if max_tokens is not None:
        asked["max_tokens"] = max_tokens
    return orjson.dumps(asked | fields)


def ask(
    world: World,
    key: str = "acme:k1",
    value: bytes | None = None,
    *,
    kind: RequestType | str = RequestType.REQUEST,
    reply_to: str = "",
    ce_id: str | None = None,
    headers: RawHeaders | None = None,
    partition: int | None = None,
) -> Produced:
    """One record on `requests`."""
    all_headers: RawHeaders = [("ce_type", str(kind).encode()), *(headers or [])]
    if ce_id is None:
        ce_id = f"id-{next(_numbers)}"
    if ce_id:
        all_headers.append(("ce_id", ce_id.encode()))
    if reply_to:
        all_headers.append(("reply-to", reply_to.encode()))
    sent = body() if value is None and kind == RequestType.REQUEST else value or b""
    return world.produce(Output(world.topics.requests, key.encode(), sent, all_headers, partition))


def leave(world: World, caller: str, mode: str, key: str = "acme:k1") -> Produced:
    """A caller hangs up."""
    return ask(
        world,
        key,
        kind=RequestType.LEAVE,
        headers=[("caller", caller.encode()), ("on-disconnect", mode.encode())],
    )


def cancel_on_control(world: World, key: str = "acme:k1", headers: RawHeaders | None = None) -> Produced:
    """A direct producer's wish."""
    return world.produce(Output(world.topics.control, key.encode(), b"", headers or []))


def orders(world: World, kind: ControlType | None = None) -> list[tuple[str, str]]:
    """What the workers were told: type and claim."""
    told = [(text(record, "ce_type"), text(record, "claim")) for record in world.records(world.topics.control)]
    return [(type_, claim) for type_, claim in told if claim and (kind is None or type_ == kind)]


def finish(
    world: World,
    work: Produced,
    outcome: Outcome = Outcome.SUCCEEDED,
    *,
    prompt_tokens: int = 7,
    completion_tokens: int = 5,
    run: str | None = None,
) -> Produced:
    """A worker ends one run of a work record."""
    run = run or f"run-{next(_numbers)}"
    succeeded = outcome is Outcome.SUCCEEDED
    ended = Completion(
        outcome=outcome,
        status=200 if succeeded else 500,
        run=run,
        worker="w1",
        engine="test",
        model_version="2.5",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        started_at=world.now,
        finished_at=world.now,
        engine_us=1000,
    )
    answer = {"id": run} if succeeded else {"error": {"message": run}}
    headers = [*work.headers, *ended.to_headers()]
    return world.produce(Output(world.topics.completions, work.key, orjson.dumps(answer), headers))


def escalate(world: World, work: Produced, *, run: str | None = None, answer: str = "") -> Produced:
    """A worker finds that its answer doesn't stand."""
    ended = Escalation(
        run=run or f"run-{next(_numbers)}",
        worker="w1",
        engine="test",
        model_version="2.5",
        prompt_tokens=7,
        completion_tokens=3,
        started_at=world.now,
        finished_at=world.now,
        escalated="unsure",
        first_answer=answer,
    )
    headers = [*work.headers, *ended.to_headers()]
    return world.produce(Output(world.topics.completions, work.key, work.value, headers))


def give_first(world: World, work: Produced) -> Produced:
    """The second model's worker fails, and gives the answer that came with the work."""
    first = FirstAnswer.model_validate_json(text(work, "first"))
    ended = FirstStands(
        **first.model_dump(),
        outcome=Outcome.SUCCEEDED,
        run=f"run-{next(_numbers)}",
        worker="w2",
        finished_at=world.now,
        engine_us=700,
        fallback_from=text(work, "model"),
    )
    headers = [*work.headers, *ended.to_headers()]
    return world.produce(Output(world.topics.completions, work.key, text(work, "first-answer").encode(), headers))


def want_shadow(world: World, ended: Produced, digest: str = "same") -> Produced:
    """The worker hands the body of what it has ended on."""
    work = next(one for one in work_records(world) if text(one, "claim") == text(ended, "claim"))
    said = ShadowWanted(run=text(ended, "run"), finished_at=world.now, answer_kind="final", answer_digest=digest)
    headers = [*work.headers, *said.to_headers()]
    return world.produce(Output(world.topics.completions, work.key, work.value, headers))


def shadowed(
    world: World, work: Produced, outcome: Outcome = Outcome.SUCCEEDED, *, digest: str = "same", doubt: Doubt | str = ""
) -> Produced:
    """Another worker ends a shadow run."""
    ended = Shadowed(
        shadow_outcome=outcome,
        run=f"run-{next(_numbers)}",
        worker="w2",
        engine="test",
        model_version="2.5",
        prompt_tokens=7,
        completion_tokens=4,
        started_at=world.now,
        finished_at=world.now,
        engine_us=900,
        answer_kind="final",
        answer_digest=digest if outcome is Outcome.SUCCEEDED else "",
        mean_logprob=-0.25,
        doubt=doubt,
    )
    headers = [*work.headers, *ended.to_headers()]
    return world.produce(Output(world.topics.completions, work.key, b"", headers))


def work_records(world: World) -> list[Produced]:
    return [record for (topic, _), log in list(world.logs.items()) if topic.startswith("work.") for record in log]


def usage_events(world: World) -> list[UsageEvent]:
    return [UsageEvent.model_validate_json(record.value) for record in world.records(world.topics.usage)]


def frames(world: World, topic: str = "responses") -> list[Produced]:
    return world.records(topic)


def text(record: Produced, name: str) -> str:
    value = header(record.headers, name)
    return value.decode() if value is not None else ""
