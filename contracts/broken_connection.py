"""Mends aiokafka 0.14 on uvloop: a connection that Kafka has reset raises RuntimeError at the next write.

For a moment after the reset aiokafka takes the connection for good. asyncio ignores a write then, uvloop raises, and
aiokafka expects nothing but OSError: the task that sends ends for good, or the one that keeps the metadata, without a
word, and every send waits for it until it times out. kill -9 of a broker that has unread data resets its connections.
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


def mend_broken_connection() -> None:
    """For every client of this process. May be repeated."""
    AIOKafkaConnection.send = _send


def _send(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    """Raises KafkaConnectionError, as for every other way that a connection ends; the caller tries again."""
    try:
        return _plain_send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {connection.host}:{connection.port} was reset") from error


_plain_send = AIOKafkaConnection.send
