"""All faults. Each returns when what it broke may heal, and has looked whether it really happened."""

from tests.chaos import clock_faults, disk_faults, ledger_faults, process_faults
from tests.chaos.registry import FAULTS, NotHappened

__all__ = ["FAULTS", "NotHappened", "clock_faults", "disk_faults", "goal_seconds", "ledger_faults", "process_faults"]

_OF_THREE_SECONDS = 5  # the goal for one broker of three


def goal_seconds(name: str, brokers: int) -> float | None:
    if name == "kill-kafka" and brokers == 3:
        return _OF_THREE_SECONDS
    return FAULTS[name].goal_seconds if name in FAULTS else None
