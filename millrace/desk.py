"""The dashboard's way to the stages: what it shows of limits, running requests and dead letters, and what it may do."""

from collections.abc import Mapping, Sequence

from analytics.dashboard.desk import LetterLine, Redriven
from contracts.catalogue import Catalogue
from contracts.frames import RequestState
from contracts.keys import RequestKey
from contracts.limit_usage import AccountUsage
from contracts.limits import EACH, Limit, Selector
from contracts.settings import Settings
from millrace.dlq import Filter, Letter, drop, find_letters
from millrace.limits import ask_usage, read_limits
from millrace.lookup import look_up
from millrace.redrive import redrive
from millrace.routing.policy_topic import policy_in_force


class OperatorDesk:
    """An analytics.dashboard.desk.Desk, by the same ways that the commands go."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def limit_usage(self, tenant: str) -> tuple[list[AccountUsage], bool]:
        return await ask_usage(self._settings, Selector(tenant or EACH))

    async def limits(self) -> Mapping[Selector, Limit]:
        return await read_limits(self._settings)

    async def catalogue(self) -> Catalogue:
        record = await policy_in_force(self._settings)
        return record.catalogue()

    async def request_state(self, key: RequestKey) -> RequestState | None:
        return await look_up(self._settings, key)

    async def letters(self, *, since: int, tenant: str, handled: bool) -> list[LetterLine]:
        found = await find_letters(self._settings, Filter(since=since, tenant=tenant, handled=handled))
        return [_line(letter) for letter in found]

    async def redrive(self, ids: Sequence[str]) -> Redriven:
        stay: dict[str, str] = {}
        letters = await find_letters(self._settings, Filter(ids=frozenset(ids)))
        count = await redrive(self._settings, letters, lambda letter, why: stay.update({letter.id: why}))
        return Redriven(count, stay)

    async def drop(self, ids: Sequence[str]) -> int:
        return await drop(self._settings, await find_letters(self._settings, Filter(ids=frozenset(ids))))


def _line(letter: Letter) -> LetterLine:
    record, why, handled = letter.record, letter.why, letter.handled
    return LetterLine(
        id=letter.id,
        at=record.timestamp,
        stage=why.dead_letter_stage if why else "",
        reason=why.dead_letter_reason if why else "its headers don't say",
        tenant=letter.tenant,
        key=(record.key or b"").decode(errors="replace"),
        topic=why.dead_letter_topic if why else "",
        partition=why.dead_letter_partition if why else -1,
        offset=why.dead_letter_offset if why else -1,
        attempts=why.dead_letter_attempts if why else 0,
        outcome=letter.outcome,
        bytes=len(record.value or b""),
        handled=handled.action if handled else "",
        handled_at=handled.at if handled else None,
        headers={name: (value or b"").decode(errors="replace") for name, value in letter.headers},
    )
