"""API keys: a bearer secret that is shown once; `api-keys` (compacted) holds only its SHA-256."""

import hashlib
import secrets

from pydantic import BaseModel, ConfigDict, Field

KEY_PREFIX = "mr_"


class ApiKey(BaseModel):
    """Value on `api-keys`; the record key is `hash_api_key` of the secret. A tombstone revokes it."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="public name of the key, for attribution and revocation")
    tenant: str
    user: str = Field("", description="every request with this key is this user's, when set")
    operator: bool = Field(False, description="opens the dashboard for every tenant, with dead letters and redrive")
    created_at: int = Field(description="UTC ms")


def new_api_key() -> str:
    """256 random bits; a slow hash would add nothing to that."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_api_key(secret: str) -> bytes:
    """SHA-256, hex."""
    return hashlib.sha256(secret.encode()).hexdigest().encode()
