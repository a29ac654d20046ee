"""What a decision may do with its table: one partition of it, as a sorted map of bytes."""

from typing import Protocol

OWN = b"\0"  # begins the keys of what a table keeps about itself; no record's key does


class State(Protocol):
    """One partition of a table. What is put is read back at once, and kept or lost together with its whole batch."""

    def get(self, key: bytes) -> bytes | None: ...

    def put(self, key: bytes, value: bytes | None) -> None:
        """None deletes."""

    def scan(self, start: bytes, stop: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """The first entries with start <= key < stop, in order."""
