"""Where every fault is entered by name."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.rig import Rig

Inflict = Callable[[Rig, random.Random], Awaitable[None]]


class NotHappened(Exception):  # noqa: N818 - a finding about the harness, not about what it tests
    """The fault was ordered, and a look from outside shows that it did not come about: the round proves nothing."""


@dataclass(frozen=True)
class Fault:
    name: str
    goal_seconds: float | None  # until answers flow again; None where a fault has no such goal
    inflict: Inflict  # returns when what it broke may heal; raises NotHappened


FAULTS: dict[str, Fault] = {}


def fault(name: str, goal_seconds: float | None = None) -> Callable[[Inflict], Inflict]:
    def register(inflict: Inflict) -> Inflict:
        FAULTS[name] = Fault(name, goal_seconds, inflict)
        return inflict

    return register
