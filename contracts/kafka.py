"""Connection options of every Kafka client, from the settings: addresses, TLS, SASL; and patience with Kafka."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context

from contracts.broken_connection import mend_broken_connection
from contracts.headers import RawHeaders
from contracts.metadata_pace import mend_metadata_pace
from contracts.offset_fetch import mend_offset_fetch
from contracts.pause import pause
from contracts.settings import Settings

mend_offset_fetch()
mend_broken_connection()
mend_metadata_pace()

ANSWER_MS = 6_000  # a broker that leaves a request unanswered for this long is asked anew, on a new connection
RETRY_SECONDS = 0.5
_log = structlog.get_logger()


def client_options(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for any aiokafka client."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = create_ssl_context(
            cafile=_text(settings.kafka_ssl_cafile),
            certfile=_text(settings.kafka_ssl_certfile),
            keyfile=_text(settings.kafka_ssl_keyfile),
        )
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = password.get_secret_value() if password else None
    return options


def producer_options(settings: Settings) -> dict[str, Any]:
    """For an idempotent producer that counts a record as sent when every in-sync replica has it."""
    return client_options(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "max_request_size": settings.max_body_bytes + 65_536,
    }


def producer_of(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """A producer that outlasts Kafka. To aiokafka the time to wait for an answer is also that to wait for room while
    Kafka is away, and its default of 40 s is too long for the one, though not for the other."""
    producer = AIOKafkaProducer(**producer_options(settings), **options)
    producer.client._request_timeout_ms = ANSWER_MS  # noqa: SLF001 - of connections
    producer._sender._request_timeout_ms = ANSWER_MS  # noqa: SLF001 - what the broker is told
    return producer


class Client(Protocol):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...


C = TypeVar("C", bound=Client)


async def started(make: Callable[[], C], settings: Settings, stop: asyncio.Event) -> C | None:
    """A client, once Kafka is there; None when told to stop before. A service that ended instead would be started again
    and again, and take from Kafka the processor time that it needs to start."""
    waiting = False
    while not stop.is_set():
        client = make()
        try:
            await client.start()
        except KafkaError as error:
            if not waiting:
                _log.warning("waiting for Kafka", servers=settings.kafka_bootstrap_servers, reason=str(error))
            waiting = True
            await client.stop()
        except BaseException:
            await client.stop()
            raise
        else:
            return client
        await pause(RETRY_SECONDS, stop)
    return None


def header(headers: RawHeaders | tuple[tuple[str, bytes], ...], name: str) -> bytes | None:
    """The last header of that name."""
    for other, value in reversed(headers):
        if other == name:
            return value
    return None


def _text(path: object) -> str | None:
    return str(path) if path is not None else None
