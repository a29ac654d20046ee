"""How what a stream says is written for its client."""

from typing import Protocol


class Wire(Protocol):
    """`id` is an EventId's bytes; all other bytes are JSON on one line."""

    def chunk(self, id: bytes, data: bytes) -> bytes:  # noqa: A002 - the event's own field
        """A part of the answer: an OpenAI chunk."""

    def error(self, data: bytes, status: int) -> bytes:
        """OpenAI's error object, and what HTTP would have said; nothing comes after it."""

    def done(self, id: bytes) -> bytes:  # noqa: A002
        """The end."""


class ServerSentEvents:
    """Source: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

    HEARTBEAT = b":\n"  # without an empty line: OpenAI's SDK takes one for an event once there were ids

    def chunk(self, id: bytes, data: bytes) -> bytes:  # noqa: A002
        return b"id: %b\ndata: %b\n\n" % (id, data)

    def error(self, data: bytes, _status: int) -> bytes:
        return b"data: %b\n\n" % data

    def done(self, id: bytes) -> bytes:  # noqa: A002
        return b"id: %b\ndata: [DONE]\n\n" % id


SSE = ServerSentEvents()
