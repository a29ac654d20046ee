"""What a client has of a stream, over all its connections, by whichever door."""

from dataclasses import dataclass, field
from typing import Any

from tests.chaos.answers import Said
from tests.chaos.trials import NoStream


class CutOff(Exception):  # noqa: N818 - no error: the client itself has cut its stream
    pass


@dataclass
class Heard:
    """`cuts`: of the first connections, after how many events the client itself cuts each."""

    cuts: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    _left: int | None = None  # events until the present connection is cut

    @property
    def last_id(self) -> str:
        return self.ids[-1] if self.ids else ""

    def connect(self) -> None:
        self.connections += 1
        self._left = self.cuts.pop(0) if self.cuts else None

    def take(self, event_id: str, chunk: dict[str, Any]) -> None:
        """Raises CutOff when that was enough of this connection."""
        self.ids.append(event_id)
        self.chunks.append(chunk)
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                raise CutOff

    def begin_anew(self) -> None:
        """What was heard turned out to be no answer's beginning."""
        self.ids, self.chunks = [], []

    def end(self) -> Said:
        """It was heard that this was all. Raises NoStream when that can't be."""
        try:
            return Said.of_chunks(self.chunks)
        except (KeyError, IndexError, ValueError) as error:
            raise NoStream(f"{error!r}: {str(self.chunks)[-200:]}") from None

    @property
    def faults(self) -> list[str]:
        """What no unbroken stream has."""
        choices = [chunk["choices"][0] for chunk in self.chunks if chunk["choices"]]
        roles = sum("role" in choice["delta"] for choice in choices)
        ends = sum(bool(choice["finish_reason"]) for choice in choices)
        seen = {
            "an event came twice": len(set(self.ids)) < len(self.ids),
            f"{roles} roles": roles > 1,
            f"{ends} ends": ends != 1,
        }
        return [what for what, is_so in seen.items() if is_so]
