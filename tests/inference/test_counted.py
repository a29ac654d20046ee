"""An engine without a tokenizer of its own goes by the count, where there is one for the model that it serves."""

import orjson
import pytest
from aiokafka import ConsumerRecord

from contracts.headers import RawHeaders
from inference.generation import Assignment
from tests.inference.jobs import chat, make_job, work_headers

ESTIMATE = make_job(chat()).prompt_estimate


@pytest.mark.parametrize(
    ("more", "tokens"),
    [([], ESTIMATE), ([("prompt-count", b"99")], 99), ([("prompt-count", b"99"), ("model", b"large")], ESTIMATE)],
)
def test_it_is_told(more: RawHeaders, tokens: int) -> None:
    body = orjson.dumps(chat())
    headers = (*work_headers(body, key="acme:k"), *more)
    record = ConsumerRecord("work.small.interactive", 0, 0, 0, 0, b"acme:k", body, None, 0, 0, headers)
    assert Assignment.parse(record).job().prompt_estimate == tokens
