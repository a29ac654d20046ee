"""A stage: one source topic, one table, one decision. What it is to the shell that carries it."""

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple, Protocol

from contracts.catalogue import Catalogue
from contracts.prices import PriceTable
from contracts.settings import Settings
from contracts.tokenizer import Tokenizers
from contracts.topics import Topics
from streams.entry import Decision, Entry
from streams.limits.policy import Policy
from streams.policy.running import RunningPolicy
from streams.policy.surroundings import Surroundings
from streams.records import Output, Record
from streams.state import OWN, State
from streams.sweep import Sweep


class House(NamedTuple):
    """What every stage is built from."""

    settings: Settings
    topics: Topics
    catalogue: Catalogue
    prices: PriceTable
    policy: Policy
    routing: RunningPolicy | None = None  # none: the catalogue's own policy, for good
    surroundings: Surroundings | None = None  # none: nothing is known of workers
    tokenizers: Tokenizers = MappingProxyType({})


class Batch(Protocol):
    """A stage at work on one batch of one partition."""

    def decide(self, record: Record) -> list[Output]: ...

    def close(self) -> None:
        """After the last record: put what is left to put."""


class Stage(NamedTuple):
    """Stages that name the same table share it: their source topics have its number of partitions."""

    name: str
    source: str  # topic
    table: str
    partitions: int
    open: Callable[[State], Batch]
    state_first: bool = False  # nothing goes out before its state is in Kafka: costs a round trip
    sweep: Sweep | None = None  # of one of the stages that share a table


class Keyed:
    """The batch of a stage that decides about one entry at a time: the one of the record's own key."""

    def __init__(self, state: State, decide: Callable[[Entry | None, Record], Decision]) -> None:
        self._state = state
        self._decide = decide

    def decide(self, record: Record) -> list[Output]:
        stored = self._state.get(record.key) if record.key and not record.key.startswith(OWN) else None
        before = Entry.decode(stored) if stored else None
        entry, outputs = self._decide(before, record)
        if record.key and entry is not None and entry is not before:
            self._state.put(record.key, entry.encode())
        return outputs

    def close(self) -> None:
        """Nothing is left to put."""
