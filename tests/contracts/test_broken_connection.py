"""Kafka resets a connection, uvloop raises what aiokafka doesn't expect: it must come out as a broken connection."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

import contracts.kafka  # noqa: F401 - mends aiokafka
from contracts.broken_connection import _plain_send

METADATA = {MetadataRequest([]).API_KEY: (0, 0)}
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: close() resets


async def send_after_reset(send: Callable[..., Any]) -> None:
    """In the moment between the reset and aiokafka's noticing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        connection = AIOKafkaConnection(host, port)
        reader, writer = await asyncio.open_connection(host, port)
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        accepted.close()
        async with asyncio.timeout(30):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        connection._reader, connection._writer, connection._versions = reader, writer, METADATA
        connection._read_task = asyncio.get_running_loop().create_future()
        connection._closed_fut = None
        assert connection.connected(), "as aiokafka sees it"
        try:
            send(connection, MetadataRequest([]))
        finally:
            connection.close()


def test_a_connection_that_was_reset_is_broken() -> None:
    with pytest.raises(KafkaConnectionError, match="was reset"):
        uvloop.run(send_after_reset(AIOKafkaConnection.send))


def test_aiokafka_alone_would_raise_what_nobody_expects() -> None:
    """When this fails, aiokafka or uvloop has changed, and the mend can go."""
    with pytest.raises(RuntimeError, match="closed"):
        uvloop.run(send_after_reset(_plain_send))
