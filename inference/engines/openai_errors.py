"""What an upstream's error means for the request, and how long to wait before asking again."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from math import inf
from typing import NoReturn

import orjson
import structlog
from tenacity import RetryCallState, wait_random_exponential
from tenacity.stop import stop_base

from contracts.errors import InvalidRequest, MillraceError, UpstreamFailed
from inference.engine import EngineOverloaded

log = structlog.get_logger()
_OVERLOADED = (429, 503, 529)
_ABOUT_US = (401, 403, 404, 407)  # the worker's key, address or model name is wrong: no caller can change that
_WORTH_ANOTHER_TRY = (408, 409, 425)
_MAX_WAIT_SECONDS = 20.0
_back_off = wait_random_exponential(multiplier=0.25, max=_MAX_WAIT_SECONDS)


class TryAgain(Exception):  # noqa: N818
    """Nothing has come of the answer yet, and the next try may go better. `retry_after` is in seconds."""

    def __init__(self, message: str, *, overloaded: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.overloaded = overloaded
        self.retry_after = retry_after


def explain(status: int, headers: Mapping[str, str], body: bytes) -> MillraceError | TryAgain:
    """The error to raise for an upstream's answer that isn't 200."""
    if status in _OVERLOADED:
        return TryAgain("The upstream is overloaded.", overloaded=True, retry_after=_retry_after(headers))
    if status in _ABOUT_US:
        log.error("The upstream refuses this worker: check its URL, key and model name.", status=status)
        return UpstreamFailed("The upstream refuses this service's own credentials or configuration.")
    if status in _WORTH_ANOTHER_TRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TryAgain(f"The upstream failed with status {status}.", retry_after=_retry_after(headers))
    return InvalidRequest(_message(body) or f"The upstream refused the request with status {status}.")


def wait_before_retry(state: RetryCallState) -> float:
    """Seconds: what the upstream asked for, else exponential back-off with full jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, TryAgain) else None
    return _back_off(state) if asked is None else asked


class TooLate(stop_base):
    """No try that would begin after the deadline (UTC ms), or that the upstream wants later than we wait."""

    def __init__(self, deadline: int | None) -> None:
        self._deadline_seconds = inf if deadline is None else deadline / 1000

    def __call__(self, state: RetryCallState) -> bool:
        wait = state.upcoming_sleep
        return wait > _MAX_WAIT_SECONDS or time.time() + wait > self._deadline_seconds


def refuse(state: RetryCallState) -> NoReturn:
    """After the last try. Raises EngineOverloaded, UpstreamFailed."""
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, TryAgain)
    if error.overloaded:
        raise EngineOverloaded(error.message, retry_after=error.retry_after or 1.0) from error
    raise UpstreamFailed(error.message) from error


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds. The header's other form, a date, isn't used by any known server of this API."""
    text = headers.get("retry-after", "")
    return float(text) if text.replace(".", "", 1).isdigit() else None


def _message(body: bytes) -> str:
    """OpenAI's error object, or the bare `message` that some servers send."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    error = fields.get("error", fields) if isinstance(fields, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message[:1000] if isinstance(message, str) else ""
