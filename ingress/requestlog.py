"""The seam to Kafka: where requests are written down. Small enough to be played by a list."""

from typing import Protocol

from contracts.headers import RawHeaders


class RequestLog(Protocol):
    """The topic `requests`."""

    @property
    def reachable(self) -> bool:
        """Whether an append is worth trying."""

    async def append(self, key: bytes, value: bytes, headers: RawHeaders) -> None:
        """Returns when the record is durable.

        Raises KafkaUnavailable when nothing was written, Unacknowledged when it may have been.
        """
