"""Whether analytics can do its work now, as `/readyz` tells it."""

from dataclasses import dataclass


@dataclass(slots=True)
class Health:
    """Written by the sink, read by the port."""

    problem: str = "starting"

    @property
    def ready(self) -> bool:
        return not self.problem

    def is_well(self) -> None:
        self.problem = ""

    def ails(self, problem: str) -> None:
        self.problem = problem
