"""What a view's module uses: `View` registers its endpoints, `Asked` is one request, judged, `Answer` what it gives."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.datastructures import QueryParams

from analytics.clickhouse import Client
from analytics.dashboard.desk import Desk
from analytics.dashboard.flow import Flow
from analytics.dashboard.periods import period
from analytics.dashboard.reading import Reading
from analytics.dashboard.session import Session
from analytics.dashboard.sql_text import readable
from analytics.questions import utc_ms
from contracts.errors import InvalidRequest, StackError
from contracts.settings import Settings

T = TypeVar("T")
_LONGEST_TEXT = 255


class Answer:
    """Rows as a page and a download get them; `more` stands beside them in JSON. Money is nano-dollars, time UTC ms."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], sql: str = "", **more: Any) -> None:
        self.rows, self.sql, self.more = rows, sql, more


@dataclass(frozen=True)
class House:
    """What every endpoint may use."""

    settings: Settings
    reading: Reading
    flow: Flow
    desk: Desk | None = None


@dataclass(frozen=True)
class Asked:
    """One request. `tenant` is the only one to be shown, or empty for all."""

    house: House
    session: Session
    tenant: str
    since: datetime
    until: datetime
    query: QueryParams
    body: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, house: House, session: Session, query: QueryParams, body: Mapping[str, Any]) -> "Asked":
        """Raises InvalidRequest, NotYours."""
        since, until = period(query.get("since"), query.get("until"), datetime.now(UTC))
        tenant = session.visible(_short(query.get("tenant", ""), "tenant"))
        return cls(house, session, tenant, since, until, query, body)

    @property
    def settings(self) -> Settings:
        return self.house.settings

    @property
    def desk(self) -> Desk:
        """Raises StackError where there is none."""
        if self.house.desk is None:
            raise StackError("This dashboard was started without a way to the stages: start it with `millrace`.")
        return self.house.desk

    @property
    def only(self) -> dict[str, str]:
        """As reports take it."""
        return {"tenant": self.tenant} if self.tenant else {}

    @property
    def scope(self) -> str:
        """The condition that every statement has; its parameter is among `parameters`."""
        return "tenant = {tenant:String}" if self.tenant else "true"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"tenant": self.tenant, "since": utc_ms(self.since), "until": utc_ms(self.until)}

    def text(self, name: str, default: str = "") -> str:
        """At most 255 characters. Raises InvalidRequest."""
        return _short(self.query.get(name, default), name)

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """Raises InvalidRequest."""
        given = self.query.get(name, default)
        if given not in allowed:
            raise InvalidRequest(f"{name} is one of {', '.join(allowed)}.", param=name)
        return given

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Raises InvalidRequest."""
        given = self.query.get(name, str(default))
        if not (given.isascii() and given.isdigit() and len(given) < 19 and least <= int(given) <= most):
            raise InvalidRequest(f"{name} is a number from {least} to {most}.", param=name)
        return int(given)

    async def read(self, question: Callable[[Client], T]) -> T:
        """`question` runs on a reading thread. Raises ClickHouseError."""
        return await self.house.reading.ask(question)

    async def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Raises ClickHouseError."""
        given = dict(self.parameters if parameters is None else parameters)
        return await self.read(lambda client: list(client.query(statement, parameters=given).named_results()))

    def sql(self, statement: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The statement as people can run it."""
        return readable(statement, self.parameters if parameters is None else parameters)


Work = Callable[[Asked], Awaitable[Answer]]


@dataclass(frozen=True)
class Endpoint:
    name: str
    method: str
    work: Work


@dataclass(frozen=True)
class View:
    """`id` is its path and the name of its JS module; `title` stands in the navigation."""

    id: str
    title: str
    operators_only: bool = False
    endpoints: list[Endpoint] = field(default_factory=list)

    def get(self, name: str) -> Callable[[Work], Work]:
        return self._register(name, "GET")

    def post(self, name: str) -> Callable[[Work], Work]:
        """For writes; who may and whether it was meant is judged before."""
        return self._register(name, "POST")

    def _register(self, name: str, method: str) -> Callable[[Work], Work]:
        def registered(work: Work) -> Work:
            self.endpoints.append(Endpoint(name, method, work))
            return work

        return registered


def _short(text: str, name: str) -> str:
    if len(text) > _LONGEST_TEXT:
        raise InvalidRequest(f"{name} is at most {_LONGEST_TEXT} characters long.", param=name)
    return text
