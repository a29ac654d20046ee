"""A ClickHouse that takes nothing, or takes and doesn't say so."""

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from contracts.topics import Topics
from millrace.polling import until
from tests.chaos.process_faults import kill_one
from tests.chaos.proof import Window
from tests.chaos.registry import NotHappened, fault
from tests.chaos.rig import Rig
from tests.chaos.switches import FORGET, FORGOTTEN, LOST_ANSWER, REFUSE

REFUSING_SECONDS = 120.0
_SIGN_SECONDS = 120.0  # for the first sign of the fault: the sink tries again after 30 s at the latest


class Held:
    """Nothing enters the ledger while usage goes on: that is what these faults must show."""

    def __init__(self, rig: Rig, log_bytes: int) -> None:
        self._rig = rig
        self._log_bytes = log_bytes

    @classmethod
    async def begin(cls, rig: Rig) -> "Held":
        return cls(rig, _size(rig.members["analytics"].log))

    async def until_log(self, signs: Iterable[str]) -> None:
        """Returns when analytics has logged one of these. Raises NotHappened."""
        log = self._rig.members["analytics"].log

        async def told() -> bool:
            text = await asyncio.to_thread(_since, log, self._log_bytes)
            return any(sign in text for sign in signs)

        try:
            async with asyncio.timeout(_SIGN_SECONDS):
                await until(told)
        except TimeoutError:
            raise NotHappened(f"analytics never logged {' or '.join(signs)}") from None

    async def check(self, seconds: float) -> None:
        """For so long no row comes, though events do. Raises NotHappened."""
        usage = await Window.open(self._rig.settings, Topics.of(self._rig.settings).usage)
        before = await rows(self._rig)
        await asyncio.sleep(seconds)
        after = await rows(self._rig)
        if after != before:
            raise NotHappened(f"{after - before} rows entered the ledger meanwhile")
        if not await usage.records():
            raise NotHappened("no usage event came that could have been refused")


@fault("refuse-ledger")
async def _refuse_ledger(rig: Rig, rng: random.Random) -> None:
    """ClickHouse refuses every insert for two minutes (error 252, too many parts); the sink is killed in between."""
    switches, held = rig.switches("analytics"), await Held.begin(rig)
    switches.set(REFUSE)
    try:
        await held.until_log(["Code: 252"])
        await held.check(REFUSING_SECONDS / 2)
        await kill_one(rig.members["analytics"])
        await rig.members["analytics"].up.wait()
        await held.check(REFUSING_SECONDS / 2)
    finally:
        switches.clear(REFUSE)


@fault("forget-ledger")
async def _forget_ledger(rig: Rig, rng: random.Random) -> None:
    """ClickHouse takes each insert, and its answer is lost; for the last one the sink is killed as well."""
    switches, held = rig.switches("analytics"), await Held.begin(rig)
    before, noted = await rows(rig), len(switches.noted(FORGOTTEN))
    switches.set(FORGET)
    try:
        await held.until_log([LOST_ANSWER])
        await asyncio.sleep(rng.uniform(2, 5))
        if await rows(rig) <= before or len(switches.noted(FORGOTTEN)) == noted:
            raise NotHappened("ClickHouse took nothing whose answer could be lost")
        await kill_one(rig.members["analytics"])
    finally:
        switches.clear(FORGET)


async def rows(rig: Rig) -> int:
    """Of the ledger now; waits for a query port that is just starting."""
    while True:
        try:
            return await asyncio.to_thread(_count, rig.ledger_url)
        except (ClickHouseError, OSError):
            await asyncio.sleep(0.5)


def _count(url: str) -> int:
    client = clickhouse_connect.get_client(dsn=url, database="millrace")
    try:
        return int(client.query("SELECT count() FROM usage").result_rows[0][0])
    finally:
        client.close()


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _since(log: Path, start: int) -> str:
    """A log that was begun anew is read whole."""
    with log.open("rb") as file:
        file.seek(start if start <= _size(log) else 0)
        return file.read().decode(errors="replace")
