"""The seam to Kafka: where requests are written down. Small enough to be played by a list."""

from typing import Protocol

from contracts.headers import RawHeaders


class RequestLog(Protocol):
    """The topic `requests`, and others that callers write to."""

    @property
    def reachable(self) -> bool:
        """Whether an append is worth trying."""

    async def append(self, key: bytes, value: bytes, headers: RawHeaders, topic: str | None = None) -> None:
        """Returns when the record is durable. Without a topic it is `requests`.

        Raises KafkaUnavailable when nothing was written, Unacknowledged when it may have been.
        """
