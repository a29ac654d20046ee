"""What the running stack's analytics is asked to do with its ledger, since no other process can open it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from analytics.rebuild import Bounds, Rebuilt
from analytics.reconcile.usage_log import Offsets
from analytics.repair import Repaired, portions
from contracts.errors import StackError
from contracts.settings import Settings
from millrace.load_settings import load_stack_settings
from millrace.stack_file import running_stack

_REBUILT = TypeAdapter(Rebuilt)
_PATIENCE = httpx.Timeout(10.0, read=3600.0)  # seconds


@dataclass(frozen=True, slots=True)
class MaintenanceClient:
    url: str
    headers: Mapping[str, str]

    @classmethod
    def of(cls, settings: Settings, data_dir: Path | None) -> Self:
        """Raises StackError when no stack runs there."""
        stack = running_stack(load_stack_settings(data_dir).data_dir)
        if stack.query_url is None:
            raise StackError(
                "The running stack's ledger is on a ClickHouse server: name it in MILLRACE_CLICKHOUSE_URL."
            )
        secret = settings.clickhouse_password
        return cls(stack.query_url, {"X-ClickHouse-Key": secret.get_secret_value()} if secret else {})

    async def repair(self, missing: Mapping[int, Sequence[Offsets]]) -> Repaired:
        """Raises StackError."""
        read, refused = 0, list[str]()
        for portion in portions(missing):
            answer = await self._ask("/maintenance/repair", {"missing": portion})
            read, refused = read + answer["read"], refused + answer["refused"]
        return Repaired(read, refused)

    async def rebuild(self) -> Rebuilt:
        """Raises StackError."""
        return _REBUILT.validate_python(await self._ask("/maintenance/rebuild", {}))

    async def swap(self, ends: Bounds) -> int:
        """Rows that came since the rebuild, and were taken over. Raises StackError."""
        return int((await self._ask("/maintenance/swap", {"ends": ends}))["newer"])

    async def forget(self, tenant: str, user: str) -> dict[str, int]:
        """Rows by table. Raises StackError."""
        rows: dict[str, int] = (await self._ask("/maintenance/forget", {"tenant": tenant, "user": user}))["rows"]
        return rows

    async def _ask(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(base_url=self.url, headers=self.headers, timeout=_PATIENCE) as http:
                answer = await http.post(path, json=body)
        except httpx.HTTPError as error:
            raise StackError(f"Analytics at {self.url} doesn't answer: {error}") from error
        if answer.status_code != httpx.codes.OK:
            raise StackError(f"Analytics would not do it: {answer.text.strip()}")
        found: dict[str, Any] = answer.json()
        return found
