"""Whether the ledger has got rows, as pages are told."""

from typing import Any

from analytics.dashboard.reading import Reading


class LedgerNews:
    """`count()` comes from the parts' own headers: it reads no row."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._rows = -1

    async def look(self) -> dict[str, Any] | None:
        """None when nothing came. How much came is nobody's business but an operator's, so it isn't said."""
        rows = await self._reading.ask(lambda client: client.command("SELECT count() FROM usage"))
        before, self._rows = self._rows, int(str(rows))
        return {} if self._rows != before else None
