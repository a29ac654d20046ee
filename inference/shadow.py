"""Shadow runs in a worker: what runs for nobody goes last, gives way, and is never tried again."""

from collections.abc import Iterable

import structlog

from contracts.completion import Completion, Escalation, Shadowed, ShadowWanted
from contracts.outcomes import Outcome
from inference.engine import EngineStalled
from inference.generation import Assignment, Generator
from inference.lane import Lane
from inference.outbox import Outbox
from inference.solitude import Solitude
from inference.spans import Serving

log = structlog.get_logger()
_NEVER_RAN = (Outcome.EXPIRED, Outcome.REJECTED)


class Shadows:
    """Of one model's consumer. `most` run at once."""

    def __init__(
        self, generator: Generator, outbox: Outbox, solitude: Solitude, lanes: Iterable[Lane], most: int
    ) -> None:
        self._generator = generator
        self._outbox = outbox
        self._solitude = solitude
        self._lanes = tuple(lanes)
        self._most = most
        self._running: set[str] = set()  # by what they are ordered as

    async def want(self, assignment: Assignment, serving: Serving, ended: Completion | Escalation) -> None:
        """After a request has been answered: the other model may run, too."""
        if assignment.work.shadow and isinstance(ended, Completion) and ended.outcome is Outcome.SUCCEEDED:
            said = ShadowWanted(**ended.model_dump(exclude={"outcome"}))
            await self._outbox.beside(serving.leaving, said)

    async def run(self, assignment: Assignment, serving: Serving, *, again: bool) -> Completion | None:
        """None when it wasn't run: there is other work, or it may have been begun before, and what harmed a worker once
        is not worth a second try. Raises EngineDied, as the engine is lost to everybody."""
        if again or self._solitude.wanted or len(self._running) >= self._most or self._others_wait:
            return None
        name = assignment.ordered_as
        self._running.add(name)
        await self._solitude.enter()
        try:
            ended, _ = await serving.tried(assignment, self._generator.run(assignment))
        except EngineStalled as error:
            log.warning("A shadow run hung.", error=error.message)
            return None
        finally:
            self._solitude.leave()
            self._running.discard(name)
        assert isinstance(ended, Completion), "a shadow run has no cascade"
        return None if ended.outcome in _NEVER_RAN else ended

    async def tell(self, serving: Serving, ended: Completion) -> None:
        said = Shadowed(shadow_outcome=ended.outcome, **ended.model_dump(exclude={"outcome"}))
        log.debug("A shadow run is over.", outcome=ended.outcome.value, tokens=ended.completion_tokens)
        await self._outbox.beside(serving.leaving, said)

    def give_way(self) -> None:
        """Others wait, and there is no room: what runs for nobody ends."""
        if self._running and self._others_wait:
            self.end()

    def end(self) -> None:
        for name in tuple(self._running):
            self._generator.orders.end(name)

    @property
    def _others_wait(self) -> bool:
        return any(lane.wanted for lane in self._lanes)
