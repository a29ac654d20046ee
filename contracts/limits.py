"""Limits: how much may be used, by whom. `limits` (compacted) holds one record per limit; `limits.toml` a list of them.

A limit says whose it is (`tenant`, `user`, `feature`, `api_key`, in any combination) and gives one figure or more. A
name stands for itself, `*` for each one apart, and what isn't given makes no difference. No limit spans tenants.
"""

import re
import tomllib
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, NamedTuple, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictInt,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from contracts.errors import ConfigError, InvalidRequest
from contracts.keys import check_tenant
from contracts.prices import NANO
from contracts.toml_lines import line_of

EACH = "*"
UNLIMITED: Literal["unlimited"] = "unlimited"
_MOST = 10**12  # tokens or requests: what the counters' arithmetic holds, with room
_MOST_NANO = 10**18  # a billion dollars


def _nano_dollars(value: Any) -> Any:
    """Dollars as a string or integer (a float has already lost digits) to nano-dollars."""
    if value is None or value == UNLIMITED:
        return value
    if isinstance(value, float | bool):
        raise ValueError('write the amount as a string, "2.50"')  # noqa: TRY004 - pydantic makes it a field error
    try:
        nano = Decimal(value) * NANO
    except (InvalidOperation, TypeError):
        raise ValueError('an amount is a number of dollars, as a string, or "unlimited"') from None
    if not nano.is_finite() or nano != nano.to_integral_value() or not 0 <= nano <= _MOST_NANO:
        raise ValueError("an amount is 0 to 1,000,000,000 dollars, in whole nano-dollars")
    return int(nano)


def _count(value: Any) -> Any:
    """A union's own message would speak of every member."""
    if value is None or value == UNLIMITED:
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError('a whole number, 0 or more, or "unlimited"')
    return value


def dollars(nano: int) -> str:
    """As few decimals as are exact, and cents at least: 2500000000 → 2.50."""
    whole, rest = divmod(nano, NANO)
    return f"{whole}.{f'{rest:09d}'.rstrip('0').ljust(2, '0')}"


def _written(value: int | str | None) -> str | None:
    return dollars(value) if isinstance(value, int) else value


Figure = StrictInt | Literal["unlimited"] | None
Count = Annotated[Figure, BeforeValidator(_count)]
Dollars = Annotated[
    Figure,
    BeforeValidator(_nano_dollars),
    PlainSerializer(_written),
    WithJsonSchema({"type": ["string", "null"], "description": 'dollars, "2.50", or "unlimited"'}),
]


class Selector(NamedTuple):
    """Whose a limit is. None: the limit doesn't look at it; `*`: each one apart; "": requests that name none."""

    tenant: str
    user: str | None = None
    feature: str | None = None
    api_key: str | None = None

    def encode(self) -> bytes:
        """The record key on `limits`."""
        return orjson.dumps([*self])

    @classmethod
    def decode(cls, key: bytes | None) -> Self:
        """Raises ValueError."""
        names = orjson.loads(key or b"")
        if not (isinstance(names, list) and len(names) == len(cls._fields) and isinstance(names[0], str)):
            raise ValueError("not a selector")
        return cls(*names)

    def __str__(self) -> str:
        parts = [("API key", self.api_key), ("feature", self.feature), ("user", self.user), ("tenant", self.tenant)]
        return " of ".join(_named(kind, name) for kind, name in parts if name is not None)


def _named(kind: str, name: str) -> str:
    if name == EACH:
        return f"each {kind}"
    return f"{kind} {name}" if name else f"no {kind}"


class Limit(BaseModel):
    """Figures that aren't given are taken from the next more general limit of the same kind; `unlimited` ends that."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant: str = EACH
    user: str | None = Field(None, max_length=255)
    feature: str | None = Field(None, max_length=255)
    api_key: str | None = Field(None, max_length=64, description="its id, as `millrace keys list` shows it")
    tokens_per_minute: Count = None
    tokens_per_day: Count = Field(None, description="prompt and answer, per calendar day in UTC")
    requests_per_minute: Count = None
    concurrent_requests: Count = Field(None, description="admitted and not ended yet")
    dollars_per_day: Dollars = Field(None, description="per calendar day in UTC")
    dollars_per_month: Dollars = Field(None, description="per calendar month in UTC")

    @field_validator("tenant")
    @classmethod
    def _check_tenant(cls, tenant: str) -> str:
        if tenant != EACH:
            try:
                check_tenant(tenant)
            except InvalidRequest as error:
                raise ValueError(error.message) from None
        return tenant

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.figures():
            raise ValueError(f"the limit has no figure: give one of {', '.join(FIGURES)}")
        return self

    @property
    def selector(self) -> Selector:
        return Selector(self.tenant, self.user, self.feature, self.api_key)

    def figures(self) -> dict[str, int | str]:
        """Those that are given. Money is nano-dollars."""
        return {name: figure for name in FIGURES if (figure := getattr(self, name)) is not None}

    def encode(self) -> bytes:
        """The record's value on `limits`."""
        return orjson.dumps(self.model_dump(exclude_none=True))


FIGURES = (
    "tokens_per_minute",
    "tokens_per_day",
    "requests_per_minute",
    "concurrent_requests",
    "dollars_per_day",
    "dollars_per_month",
)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: list[Limit] = []


def parse_limits(text: str, name: str) -> list[Limit]:
    """The limits of a TOML file. Raises ConfigError with the line and the reason of everything that is wrong."""
    try:
        limits = _File.model_validate(tomllib.loads(text)).limit
    except tomllib.TOMLDecodeError as error:
        raise _refused(name, [_syntax(str(error))]) from None
    except ValidationError as error:
        raise _refused(name, [_explain(text, one) for one in error.errors(include_url=False)]) from None
    seen: set[Selector] = set()
    for number, limit in enumerate(limits):
        if limit.selector in seen:
            line = line_of(text, ("limit", number))
            raise _refused(name, [f"line {line}: there is a limit for {limit.selector} above; join them"])
        seen.add(limit.selector)
    return limits


def write_limits(limits: Iterable[Limit]) -> str:
    """As `parse_limits` reads them."""
    tables = []
    for limit in limits:
        lines = [f"{name} = {_toml(value)}" for name, value in limit.model_dump(exclude_none=True).items()]
        tables.append("\n".join(["[[limit]]", *lines]) + "\n")
    return "\n".join(tables)


def _toml(value: str | int) -> str:
    """JSON's strings are TOML's, for what may stand in a name here."""
    return f"{value:_}" if isinstance(value, int) else orjson.dumps(value).decode().replace("\x7f", "\\u007f")


def _refused(name: str, reasons: list[str]) -> ConfigError:
    return ConfigError("\n  ".join([f"{name} is refused, and nothing was changed:", *reasons]))


def _syntax(message: str) -> str:
    found = re.search(r"\(at line (\d+), column \d+\)", message)
    return f"line {found[1]}: {message[: found.start()].strip()}" if found else message


def _explain(text: str, error: Any) -> str:
    place: tuple[str | int, ...] = error["loc"]
    field = f"{place[2]}: " if len(place) > 2 else f"{place[0]}: " if len(place) == 1 else ""
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        reason = (
            f"there is no such figure; there are {', '.join(FIGURES)}" if len(place) > 2 else "it must be [[limit]]"
        )
    return f"line {line_of(text, place) or 1}: {field}{reason}"
