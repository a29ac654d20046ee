"""What is said on a WebSocket: one JSON object on each line, see contracts/websocket.py."""

import orjson

from contracts.errors import MillraceError


class WsWire:
    """A stream's events under its client's name for it."""

    def __init__(self, ref: str) -> None:
        self._ref = orjson.dumps(ref)

    def chunk(self, id: bytes, data: bytes) -> bytes:  # noqa: A002
        return b'{"type":"chunk","ref":%b,"id":"%b","chunk":%b}\n' % (self._ref, id, data)

    def done(self, id: bytes) -> bytes:  # noqa: A002
        return b'{"type":"done","ref":%b,"id":"%b"}\n' % (self._ref, id)

    def error(self, data: bytes, status: int) -> bytes:
        """`data` is OpenAI's error object as a body."""
        error = orjson.dumps(orjson.loads(data)["error"])
        return b'{"type":"error","ref":%b,"status":%d,"error":%b}\n' % (self._ref, status, error)

    def refuse(self, error: MillraceError) -> bytes:
        return self.error(error.body(), error.status)

    def accepted(self, key: str) -> bytes:
        return b'{"type":"accepted","ref":%b,"key":%b}\n' % (self._ref, orjson.dumps(key))

    def state(self, state: bytes) -> bytes:
        return b'{"type":"state","ref":%b,"state":%b}\n' % (self._ref, state)
