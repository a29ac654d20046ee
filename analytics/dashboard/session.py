"""Sessions: a signed cookie that names an API key, judged at each request, so that a revoked key's sessions end."""

import base64
import binascii
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from time import time

from contracts.api_keys import ApiKey
from contracts.errors import MillraceError
from contracts.keyring import KeyRing
from contracts.settings import Settings

COOKIE = "millrace_session"


class SignIn(MillraceError):  # noqa: N818 - an answer
    """Nobody is signed in, or no longer."""

    status, type, code = 401, "invalid_request_error", "sign_in"


class NotYours(MillraceError):  # noqa: N818
    """Signed in, and this is not for them."""

    status, type, code = 403, "invalid_request_error", "not_yours"


@dataclass(frozen=True, slots=True)
class Session:
    """Who looks. An operator sees every tenant; anybody else only their own."""

    key_id: str
    tenant: str
    operator: bool
    csrf: str  # what a write must carry in X-CSRF-Token

    def visible(self, asked: str) -> str:
        """The tenant to show, empty for all, when a page asks for `asked`. Raises NotYours."""
        if self.operator:
            return asked
        if asked not in ("", self.tenant):
            raise NotYours(f"You are signed in for tenant {self.tenant} and see nothing of others.")
        return self.tenant


class Sessions:
    """Opens and judges them."""

    def __init__(self, settings: Settings, ring: KeyRing) -> None:
        given = settings.dashboard_secret
        self._secret = given.get_secret_value().encode() if given else secrets.token_bytes(32)
        self.seconds = settings.dashboard_session_hours * 3600
        self._ring = ring

    def open(self, secret: str) -> tuple[Session, str]:
        """For an API key: the session and its cookie's value. Raises SignIn, NotYours."""
        key = self._ring.find(secret.strip())
        if key is None:
            raise SignIn("That key is unknown or was revoked.")
        payload = f"{key.id}.{int(time())}.{secrets.token_urlsafe(12)}"
        return self._session(key, payload), f"{_encode(payload.encode())}.{_encode(self._sign('session', payload))}"

    def judge(self, cookie: str | None) -> Session:
        """Raises SignIn, NotYours."""
        payload = self._payload(cookie or "")
        key_id, opened, _ = payload.rsplit(".", 2)
        key = self._ring.by_id(key_id)
        if key is None or not 0 <= time() - int(opened) <= self.seconds:
            raise SignIn("Your session has ended: sign in again.")
        return self._session(key, payload)

    def _session(self, key: ApiKey, payload: str) -> Session:
        if key.user:
            raise NotYours("That key is one user's; the dashboard opens to a key of the whole tenant.")
        return Session(key.id, key.tenant, key.operator, _encode(self._sign("csrf", payload)))

    def _payload(self, cookie: str) -> str:
        """What was signed here. Raises SignIn."""
        text, _, signature = cookie.partition(".")
        try:
            payload = _decode(text).decode()
            if hmac.compare_digest(_decode(signature), self._sign("session", payload)):
                return payload
        except (binascii.Error, ValueError):
            pass
        raise SignIn("Sign in with an API key.")

    def _sign(self, purpose: str, payload: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose}:{payload}".encode(), hashlib.sha256)


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
