"""Logs: readable or JSON, to standard error; never prompt text, never a secret.

A line that concerns a request has its key and, where there is one, its trace id. Who begins to work on a request says
so by `concerns`, and every line of that task names it, those of libraries too. What an exception says may quote what it
failed on: so it is told by its type and the lines of code, unless it is an error of ours, whose words are public, or
one of Kafka, the network or the disk, which know no prompts.
"""

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, TextIO, cast

import structlog
from aiokafka.errors import KafkaError
from structlog.typing import EventDict, WrappedLogger

from contracts.errors import InvalidRequest, MillraceError
from contracts.keys import RequestKey
from contracts.settings import Settings
from contracts.tracing import TraceContext

Headers = Iterable[tuple[str, bytes]]
_SPEAK = (MillraceError, KafkaError, OSError)


class _Subject(NamedTuple):
    key: bytes | None
    headers: Headers


_subject: ContextVar[_Subject | None] = ContextVar("subject", default=None)


def concerns(key: bytes | None, headers: Headers = ()) -> None:
    """From here on the present task is about this record. Costs nothing until a line is written."""
    _subject.set(_Subject(key, headers))


@contextmanager
def concerning(key: bytes | None, headers: Headers = ()) -> Iterator[None]:
    """The same, for a while."""
    token = _subject.set(_Subject(key, headers))
    try:
        yield
    finally:
        _subject.reset(token)


def configure_logging(settings: Settings) -> None:
    """Once per process. Libraries' own loggers go the same way, from warning up."""
    level = getattr(logging, settings.log_level.upper())
    stream = cast("TextIO", _Lossy(sys.stderr))
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_subject,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _format_exception,
        _in_order,
        _renderer(settings),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_OfLibraries(processors))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _renderer(settings: Settings) -> structlog.typing.Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _name_subject(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The request's own key, where the record's is another too; what isn't one may be anything, and isn't written."""
    subject = _subject.get()
    if subject is None:
        return event
    headers = dict(subject.headers)
    with suppress(InvalidRequest):
        key = RequestKey.decode(headers.get("request-key") or subject.key)
        event.setdefault("key", f"{key.tenant}:{key.idempotency_key}")
    if context := TraceContext.parse(headers.get("traceparent")):
        event.setdefault("trace_id", context.trace_id)
    return event


def _in_order(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """When and what first, for those who read JSON."""
    return {**{name: event[name] for name in ("timestamp", "level", "event")}, **event}


def _format_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else (given[1] if isinstance(given, tuple) else None)
    if error is None and given:
        error = sys.exception()
    if error is not None:
        event["exception"] = _tell(error)
    return event


def _tell(error: BaseException) -> str:
    """Innermost first, without local variables."""
    parts: list[str] = []
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        words = f": {link}" if isinstance(link, _SPEAK) else ""
        parts.append(f"{_stack(link.__traceback__)}{type(link).__qualname__}{words}")
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return "\n\n".join(reversed(parts))


def _stack(trace: TracebackType | None) -> str:
    return "".join(traceback.format_tb(trace))


class _OfLibraries(logging.Formatter):
    """A library's line, through the same processors as ours."""

    def __init__(self, processors: list[structlog.typing.Processor]) -> None:
        super().__init__()
        self._processors = processors

    def format(self, record: logging.LogRecord) -> str:
        event: Any = {"event": record.getMessage(), "logger": record.name, "exc_info": record.exc_info}
        for processor in self._processors:
            event = processor(None, record.levelname.lower(), event)
        return str(event)


class _Lossy:
    """A full disk costs lines of the log, not the service that writes them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
