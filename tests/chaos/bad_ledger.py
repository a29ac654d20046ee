"""A ClickHouse that refuses inserts, or takes them and loses the answer: inside the analytics process, which alone may
have the embedded engine open."""

from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

import analytics.ledger
from analytics.clickhouse import Client, connect
from contracts.errors import MillraceError
from contracts.settings import settings
from tests.chaos.switches import FORGET, FORGOTTEN, LOST_ANSWER, REFUSE, Switches

_SET = "MODIFY SETTING parts_to_delay_insert = 1, parts_to_throw_insert = 1"
_RESET = "RESET SETTING parts_to_delay_insert, parts_to_throw_insert"


class BadLedger:
    """`look` follows the switches; call it now and then."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._refusing: bool | None = None  # not known yet: a table keeps its settings
        self._opened = False
        self._client: Client | None = None
        plain = analytics.ledger.connect
        analytics.ledger.connect = lambda *args: self._forgetful(plain(*args))

    def look(self) -> None:
        refuse = bool(self._switches.get(REFUSE))
        if refuse == self._refusing or not self._opened:
            return
        try:
            self._set(refuse=refuse)
        except (ClickHouseError, MillraceError):
            return  # the service hasn't made the table yet
        self._refusing = refuse

    def _set(self, *, refuse: bool) -> None:
        """By ClickHouse's own limit: with one part in a month, the next insert is one too many (error 252)."""
        self._client = self._client or connect(settings())
        self._client.command(f"ALTER TABLE {settings().clickhouse_database}.usage {_SET if refuse else _RESET}")

    def _forgetful(self, client: Client) -> Client:
        self._opened = True
        plain = client.command

        def command(sql: str, parameters: Any = None, **options: Any) -> Any:
            answer = plain(sql, parameters, **options)
            if self._switches.get(FORGET) and "count" in (parameters or ()):  # the step into `usage`, not the stage
                self._switches.note(FORGOTTEN, int(parameters["count"]))
                raise OperationalError(LOST_ANSWER)
            return answer

        client.command = command
        return client
