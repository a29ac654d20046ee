"""The worker's way out, by a producer that refuses."""

from typing import Any

from aiokafka import ConsumerRecord
from aiokafka.errors import UnknownTopicOrPartitionError

from contracts.completion import Completion
from contracts.outcomes import Outcome
from contracts.topics import Topics
from inference.outbox import Outbox


class Forgetful:
    """A broker that has just been started again: doesn't know the topic at first."""

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.taken: list[tuple[str, bytes, bytes]] = []

    async def send_and_wait(self, topic: str, value: bytes, *, key: bytes, headers: Any) -> None:  # noqa: ARG002
        if self.refusals:
            self.refusals -= 1
            raise UnknownTopicOrPartitionError
        self.taken.append((topic, key, value))


async def test_an_outcome_waits_for_a_broker_that_does_not_know_its_topics_yet() -> None:
    producer = Forgetful(refusals=2)
    outbox = Outbox(producer, Topics())
    record = ConsumerRecord("work", 0, 7, 0, 0, b"acme:1", b"{}", None, 6, 2, ())
    await outbox.complete(record, Completion(outcome=Outcome.SUCCEEDED, finished_at=1), b"answer")
    assert producer.taken == [("completions", b"acme:1", b"answer")]
