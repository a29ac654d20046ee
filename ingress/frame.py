"""A frame as it came from Kafka: `contracts.frames.Frame` costs 3 µs, and a delta needs three of its headers."""

from typing import NamedTuple

from contracts.frames import FrameKind

DELTA = FrameKind.DELTA.encode()
FINAL = FrameKind.FINAL.encode()
ERROR = FrameKind.ERROR.encode()
STATE = FrameKind.STATE.encode()
PLACE = FrameKind.PLACE.encode()


class RawFrame(NamedTuple):
    headers: dict[str, bytes]
    value: bytes

    @property
    def kind(self) -> bytes:
        return self.headers.get("kind", b"")

    @property
    def terminal(self) -> bool:
        """Whether it ends its request."""
        return self.kind in (FINAL, ERROR)

    @property
    def takes_over(self) -> bool:
        """Whether it only says that from here on no other run counts."""
        return self.kind == DELTA and self.headers.get("sequence") == b"0"

    @property
    def status(self) -> int:
        """HTTP status of the answer."""
        return self.number("status", 200)

    @property
    def replayed(self) -> bool:
        """Whether it is a stored answer, given again."""
        return self.headers.get("replayed") == b"1"

    def number(self, name: str, default: int = 0) -> int:
        return int(self.headers.get(name, default))

    def known(self, name: str) -> int | None:
        text = self.headers.get(name)
        return None if text is None else int(text)

    def text(self, name: str) -> str:
        return self.headers.get(name, b"").decode("utf-8", "replace")
