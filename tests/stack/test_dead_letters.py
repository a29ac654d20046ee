"""`millrace dlq` on the running stack."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contracts.dead_letter import DeadLetter
from millrace.stack_file import StackFile
from tests.support.audit import audit
from tests.support.commands import millrace

pytestmark = pytest.mark.stack
BODY = orjson.dumps({"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 7})


async def put_aside(stack: StackFile, key: str, tenant: str) -> None:
    """What a defect of a stage, since mended, would have put aside."""
    letter = DeadLetter(
        dead_letter_reason="It could not be processed: see the log.",
        dead_letter_stage="dedupe",
        dead_letter_topic="requests",
        dead_letter_partition=0,
        dead_letter_offset=0,
    )
    headers = [("tenant", tenant.encode()), *letter.to_headers()]
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
        await producer.send_and_wait("dead-letters", BODY, key=f"{tenant}:{key}".encode(), headers=headers)


async def test_a_redriven_request_is_answered_and_billed_once(
    data_dir: Path, stack: StackFile, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    tenant, key = f"dlq-{uuid4().hex[:8]}", f"k-{uuid4()}"
    for _ in range(2):  # the same record put aside twice: its identity keeps it one request
        await put_aside(stack, key, tenant)

    listed = await millrace(data_dir, "dlq", "list", "--tenant", tenant, "--stage", "dedupe", "--format", "json")
    assert listed.status == 0, listed
    letters = json.loads(listed.out)
    assert [letter["key"] for letter in letters] == [f"{tenant}:{key}"] * 2
    shown = await millrace(data_dir, "dlq", "show", letters[0]["id"])
    assert "hello" in shown.out
    assert "requests/0@0" in shown.out

    nothing_named = await millrace(data_dir, "dlq", "redrive")
    assert nothing_named.status == 2, nothing_named
    redriven = await millrace(data_dir, "dlq", "redrive", "--tenant", tenant)
    assert (redriven.status, redriven.out) == (0, "2 redriven\n"), redriven
    await ledger("SELECT 1 FROM usage WHERE idempotency_key = {key:String}", 1, key=key)
    found = await audit(stack.kafka)
    assert len(found.finals[f"{tenant}:{key}"]) == 1
    assert len(found.usage[f"{tenant}:{key}"]) == 1
    assert not [event for event in found.waste if event.idempotency_key == key]
    assert json.loads((await millrace(data_dir, "dlq", "list", "--tenant", tenant, "--format", "json")).out) == []


async def test_a_dropped_letter_is_handled(data_dir: Path, stack: StackFile) -> None:
    tenant = f"dlq-{uuid4().hex[:8]}"
    await put_aside(stack, "k", tenant)
    dropped = await millrace(data_dir, "dlq", "drop", "--tenant", tenant)
    assert (dropped.status, dropped.out) == (0, "1 dropped\n"), dropped
    listed = await millrace(data_dir, "dlq", "list", "--tenant", tenant, "--handled")
    assert "dropped" in listed.out


async def test_a_request_that_failed_runs_once_more_and_the_books_agree(
    data_dir: Path, stack: StackFile, ledger: Callable[..., Awaitable[list[tuple[object, ...]]]]
) -> None:
    """It fails again here; what counts is that it ran again, under a new claim, and that each run is accounted for."""
    tenant, key = f"dlq-{uuid4().hex[:8]}", f"k-{uuid4()}"
    body = orjson.dumps(orjson.loads(BODY) | {"metadata": {"synthetic_fault": "error"}})
    rows = "SELECT claim FROM usage WHERE idempotency_key = {key:String} AND outcome = 'failed' AND cost_nano = 0"
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
        await producer.send_and_wait("requests", body, key=f"{tenant}:{key}".encode())
        ((claim,),) = await ledger(rows, 1, key=key)
        letter = DeadLetter(
            dead_letter_reason="The request was tried 3 times; each time the engine died or hung.",
            dead_letter_stage="worker",
            dead_letter_topic="work.small.interactive",
            dead_letter_partition=0,
            dead_letter_offset=0,
            dead_letter_outcome="failed",
        )
        headers = [("tenant", tenant.encode()), ("claim", str(claim).encode()), *letter.to_headers()]
        await producer.send_and_wait("dead-letters", body, key=f"{tenant}:{key}".encode(), headers=headers)
    redriven = await millrace(data_dir, "dlq", "redrive", "--tenant", tenant)
    assert (redriven.status, redriven.out) == (0, "1 redriven\n"), redriven
    assert len({claim for (claim,) in await ledger(rows, 2, key=key)}) == 2
    found = await audit(stack.kafka)
    assert not [event for event in found.waste if event.idempotency_key == key]
    books = await millrace(data_dir, "reconcile", "--since", "10m", "--until", "0s", "--format", "json")
    assert key not in books.out, books
