"""The whole error hierarchy, with HTTP status and public message beside each; the message says what to change.

The body is OpenAI's error object: https://platform.openai.com/docs/guides/error-codes
"""

from typing import Any, ClassVar

import orjson


class MillraceError(Exception):
    """Base of every error that a caller may see. `str(error)` is public: no internals, no secrets, no prompt text."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = "internal_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after  # seconds

    def body(self) -> bytes:
        return error_body(self.message, self.type, self.code, self.param)


def error_body(message: str, type_: str, code: str | None, param: str | None = None) -> bytes:
    """OpenAI's error object as JSON bytes."""
    error: dict[str, Any] = {"message": message, "type": type_, "param": param, "code": code}
    return orjson.dumps({"error": error})


class InvalidRequest(MillraceError):  # noqa: N818 - named as the OpenAI API names it
    status, type, code = 400, "invalid_request_error", "invalid_request"


class InvalidIdempotencyKey(InvalidRequest):
    code = "invalid_idempotency_key"


class Unauthorized(MillraceError):  # noqa: N818
    status, type, code = 401, "invalid_request_error", "invalid_api_key"


class UnknownModel(InvalidRequest):
    status, code = 404, "model_not_found"


class UnknownRequest(InvalidRequest):
    status, code = 404, "request_not_found"


class BodyTooLarge(InvalidRequest):
    status, code = 413, "body_too_large"


class IdempotencyKeyReused(InvalidRequest):
    """Same key, other body. IETF draft-ietf-httpapi-idempotency-key-header-07 §2.7."""

    status, code = 422, "idempotency_key_reused"


class RequestFinished(InvalidRequest):
    """Too late to cancel it."""

    status, code = 409, "request_finished"


class RateLimited(MillraceError):  # noqa: N818
    status, type, code = 429, "rate_limit_error", "rate_limit_exceeded"


class EngineFailed(MillraceError):  # noqa: N818
    status, type, code = 500, "server_error", "engine_failed"


class UpstreamFailed(MillraceError):  # noqa: N818
    status, type, code = 502, "server_error", "upstream_failed"


class KafkaUnavailable(MillraceError):  # noqa: N818
    status, type, code = 503, "server_error", "kafka_unavailable"


class Unacknowledged(KafkaUnavailable):
    """The record was handed over and its receipt didn't come in time: the request may yet run."""

    code = "unacknowledged"


class NoWorker(MillraceError):  # noqa: N818
    """Nobody serves the model now, and the request can't wait for somebody."""

    status, type, code = 503, "server_error", "no_worker"


class OverCapacity(MillraceError):  # noqa: N818
    """It would wait for its turn beyond its deadline."""

    status, type, code = 529, "server_error", "over_capacity"


class StreamDiverged(MillraceError):  # noqa: N818
    """What a crashed run had streamed isn't how the answer that counts begins."""

    status, type, code = 502, "server_error", "stream_diverged"


class StillRunning(MillraceError):  # noqa: N818
    status, type, code = 504, "server_error", "still_running"


class DeadlineExceeded(MillraceError):  # noqa: N818
    status, type, code = 504, "server_error", "deadline_exceeded"


class ConfigError(MillraceError):
    """A setting or a policy file is wrong: said once, at start, with what to change."""

    code = "config_error"


class StackError(MillraceError):
    """The one-machine stack can't start or run; the message is one clear sentence for the terminal."""

    code = "stack_error"
