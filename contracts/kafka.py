"""Connection options of every Kafka client, from the settings: addresses, TLS, SASL."""

from typing import Any

from aiokafka.helpers import create_ssl_context

from contracts.headers import RawHeaders
from contracts.offset_fetch import mend_offset_fetch
from contracts.settings import Settings

mend_offset_fetch()


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


def header(headers: RawHeaders | tuple[tuple[str, bytes], ...], name: str) -> bytes | None:
    """The last header of that name."""
    for other, value in reversed(headers):
        if other == name:
            return value
    return None


def _text(path: object) -> str | None:
    return str(path) if path is not None else None
