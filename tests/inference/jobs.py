"""Jobs and work records for tests."""

from typing import Any

import orjson

from contracts.bodies import describe
from contracts.catalogue import ModelSpec, SyntheticTiming
from contracts.envelope import Work
from contracts.headers import RawHeaders
from inference.engine import Engine, Job, Step

INSTANT = SyntheticTiming(step_us=0, prefill_us_per_token=0, decode_us_per_sequence=0)
ACCEPTED_AT = 1_790_000_000_123


def instant_spec(**fields: Any) -> ModelSpec:
    return ModelSpec(synthetic=INSTANT, **fields)


def chat(text: str = "Tell me about mills.", **fields: Any) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": text}], **fields}


def make_job(body: dict[str, Any], *, key: str = "acme:one", priority: int = 0) -> Job:
    digest = describe(orjson.dumps(body)).digest
    return Job(
        key=key,
        operation=digest.operation,
        body=body,
        fingerprint=digest.fingerprint,
        prompt_estimate=digest.prompt_estimate,
        max_tokens=digest.max_tokens,
        stream=digest.stream,
        priority=priority,
    )


def work_headers(body: bytes, *, key: str, claim: str = "0.0", **fields: Any) -> RawHeaders:
    digest = describe(body).digest
    work = Work(
        **digest.model_dump(),
        tenant=key.partition(":")[0],
        request_key=key,
        claim=claim,
        accepted_at=ACCEPTED_AT,
        deduped_at=ACCEPTED_AT + 1,
        admitted_at=ACCEPTED_AT + 2,
        model=digest.requested_model,
        route="named",
        complexity=0.1,
        router_version="test",
        reserved_tokens=100,
        **fields,
    )
    return work.to_headers()


async def collect(engine: Engine, job: Job) -> list[Step]:
    return [step async for step in engine.generate(job)]
