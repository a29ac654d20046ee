"""A request's identity: `(tenant, idempotency_key)`, written `tenant:idempotency_key` as the Kafka record key."""

import re
from typing import NamedTuple, Self

from ulid import ULID

from contracts.errors import InvalidIdempotencyKey, InvalidRequest

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")


class RequestKey(NamedTuple):
    tenant: str
    idempotency_key: str

    def encode(self) -> bytes:
        return f"{self.tenant}:{self.idempotency_key}".encode()

    @classmethod
    def decode(cls, record_key: bytes | None) -> Self:
        """Raises InvalidRequest when the key names no tenant, InvalidIdempotencyKey when its second half is unfit."""
        text = (record_key or b"").decode("utf-8", "replace")
        tenant, colon, key = text.partition(":")
        if not colon:
            raise InvalidRequest("The record key must be tenant:idempotency_key.", param="key")
        return cls(check_tenant(tenant), check_idempotency_key(key))


def check_tenant(tenant: str) -> str:
    """1–63 letters, digits, dots, hyphens and underscores, not beginning with punctuation. Raises InvalidRequest."""
    if not _TENANT.fullmatch(tenant):
        raise InvalidRequest("A tenant's name is 1-63 letters, digits, '.', '_' or '-'.", param="tenant")
    return tenant


def check_idempotency_key(key: str) -> str:
    """1–255 visible ASCII characters. Raises InvalidIdempotencyKey."""
    if not _VISIBLE.fullmatch(key):
        raise InvalidIdempotencyKey(
            "An idempotency key is 1-255 visible ASCII characters, without spaces.", param="Idempotency-Key"
        )
    return key


def parse_idempotency_header(value: str) -> str:
    """The key of an `Idempotency-Key` header; quoted (the IETF draft's structured string) equals bare."""
    if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
        value = value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return check_idempotency_key(value)


def new_idempotency_key() -> str:
    """A ULID: unique, and sorted by time."""
    return str(ULID())
