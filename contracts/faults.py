"""What is wrong with a value that came from outside, in words that may be public: they never quote it."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from contracts.errors import InvalidRequest

M = TypeVar("M", bound=BaseModel)


def decode(model: type[M], value: bytes | None) -> M:
    """A body or a record's value, as JSON. Raises InvalidRequest."""
    try:
        return model.model_validate_json(value or b"")
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError, whole: str = "The body") -> InvalidRequest:
    """Names the field, or calls it `whole` when it isn't one field that is wrong."""
    where, what = first_fault(error)
    return InvalidRequest(f"{where or whole}: {what}.", param=where or None)


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The path of the field, with dots, or empty; and what is wrong there."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return ".".join(map(str, first["loc"])), first["msg"]
