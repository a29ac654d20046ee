"""Deltas for those who follow a request: what came before they asked, and what goes to another process's address."""

from typing import Protocol

from ingress.frame import RawFrame


class Listener(Protocol):
    """Who follows a request."""

    @property
    def key(self) -> bytes: ...

    def hear(self, frame: RawFrame) -> None:
        """A delta, in the order of the log; again from the beginning when the reader went back for somebody else."""

    def up_to_date(self) -> None:
        """What had been written when it began to listen has been heard."""


class History(Protocol):
    async def listen(self, listener: Listener, address: str, since_ms: int) -> None:
        """Begin to tell it what was written to a reply address since then (UTC ms), and what will be."""

    def leave(self, listener: Listener) -> None:
        """Nothing more for that one, who may never have listened."""


class Silence:
    """A History that knows nothing: streams have all from the final answer."""

    async def listen(self, listener: Listener, _address: str, _since_ms: int) -> None:
        listener.up_to_date()

    def leave(self, listener: Listener) -> None: ...
