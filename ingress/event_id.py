"""The id of a stream's event: where a client stands that has heard it, whichever replica it asks next.

`<run>.<sequence>.<position>`: that it has had the run's frames up to the sequence, and text up to the position
(characters). `.<end>` says that it knows the end too; `-<checksum>` is the text's CRC-32 when other runs have a part in
it. Clients treat it as opaque.
"""

import re
from enum import IntEnum
from typing import NamedTuple, Self
from zlib import crc32

from contracts.errors import InvalidRequest

_FORM = re.compile(r"([0-9a-f]{1,8})\.([0-9]{1,9})\.([0-9]{1,9})(?:\.([1-3])|-([0-9a-f]{8}))?")


class End(IntEnum):
    """How much of the end was told."""

    NOTHING = 0
    REST = 1  # all of the answer
    USAGE = 2
    DONE = 3


class EventId(NamedTuple):
    run: bytes = b"0"  # `run_tag`; no name of ours leaves the house
    sequence: int = 0
    position: int = 0
    end: End = End.NOTHING
    checksum: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InvalidRequest."""
        found = _FORM.fullmatch(text)
        if not found:
            raise InvalidRequest("That isn't the id of an event of a stream here.", param="Last-Event-ID")
        run, sequence, position, end, hexadecimal = found.groups()
        checksum = int(hexadecimal, 16) if hexadecimal else None
        return cls(run.encode(), int(sequence), int(position), End(int(end or 0)), checksum)

    def encode(self) -> bytes:
        standing = b"%b.%d.%d" % self[:3]
        if self.end:
            return b"%b.%d" % (standing, self.end)
        return standing if self.checksum is None else b"%b-%08x" % (standing, self.checksum)


START = EventId()


def run_tag(run: bytes) -> bytes:
    """Tells the runs of one request apart."""
    return b"%08x" % crc32(run)
