"""Pydantic models that travel as Kafka record headers: field `reply_to` is header `reply-to`; bodies stay untouched."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import InvalidRequest
from contracts.faults import first_fault

RawHeaders = list[tuple[str, bytes]]


def header_name(field: str) -> str:
    """`ce_id` stays (CloudEvents' Kafka binding says so); other names take hyphens."""
    return field if field.startswith("ce_") else field.replace("_", "-")


class HeaderModel(BaseModel):
    """Values are text in UTF-8; booleans are `1` and `0`; an absent header is None or the default."""

    model_config = ConfigDict(alias_generator=header_name, populate_by_name=True, frozen=True, extra="ignore")

    @classmethod
    def from_headers(cls, headers: Iterable[tuple[str, bytes]] | Mapping[str, bytes]) -> Self:
        """The last value wins where a header comes twice. Raises InvalidRequest naming the header that doesn't fit."""
        items = headers.items() if isinstance(headers, Mapping) else headers
        try:
            return cls.model_validate({name: (value or b"").decode() for name, value in items})
        except UnicodeDecodeError:
            raise InvalidRequest("Header values must be UTF-8.") from None
        except ValidationError as error:
            name, what = first_fault(error)
            raise InvalidRequest(f"Header {name}: {what}.", param=name) from None

    def to_headers(self) -> RawHeaders:
        return [
            (name, _encode(value))
            for field, name in _names(type(self))
            if (value := getattr(self, field)) is not None and value != ""
        ]


@cache
def _names(model: type[HeaderModel]) -> tuple[tuple[str, str], ...]:
    return tuple((field, header_name(field)) for field in model.model_fields)


def _encode(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"1" if value else b"0"
    return str(value).encode()
