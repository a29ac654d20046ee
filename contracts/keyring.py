"""Who calls: bearer API keys, of which only hashes are known, kept current from the topic `api-keys`."""

from collections.abc import Iterable
from typing import Protocol

import structlog
from pydantic import ValidationError

from contracts.api_keys import ApiKey, hash_api_key
from contracts.errors import Unauthorized

log = structlog.get_logger()


class KeyRecord(Protocol):
    """A record on `api-keys`, as aiokafka gives it."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class KeyRing:
    """The API keys in force, by SHA-256."""

    def __init__(self) -> None:
        self._keys: dict[bytes, ApiKey] = {}

    def apply(self, records: Iterable[KeyRecord]) -> None:
        """The latest record of a hash counts; a tombstone revokes."""
        for record in records:
            hashed = record.key or b""
            self._keys.pop(hashed, None)
            if record.value:
                self._add(hashed, record.value)

    def authenticate(self, authorization: bytes | None) -> ApiKey:
        """The key of an `Authorization: Bearer` header. Raises Unauthorized."""
        if not authorization:
            raise Unauthorized("No API key: send it as the header `Authorization: Bearer YOUR_API_KEY`.")
        scheme, _, secret = authorization.decode("latin-1").partition(" ")
        key = self._keys.get(hash_api_key(secret.strip()))
        if scheme.lower() != "bearer" or key is None:
            raise Unauthorized("Incorrect API key: it is unknown or was revoked.")
        return key

    def find(self, secret: str) -> ApiKey | None:
        """The key in force with that secret."""
        return self._keys.get(hash_api_key(secret))

    def by_id(self, key_id: str) -> ApiKey | None:
        """The key in force by its public name."""
        return next((key for key in self._keys.values() if key.id == key_id), None)

    def _add(self, hashed: bytes, value: bytes) -> None:
        try:
            self._keys[hashed] = ApiKey.model_validate_json(value)
        except ValidationError:
            log.warning("an API key's record can't be read and is ignored", hash=hashed.decode("ascii", "replace"))
