"""Money: integer nano-dollars, written as a decimal number of dollars in files and settings."""

from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BeforeValidator

NANO = 1_000_000_000  # of a dollar


def _nano_dollars(value: Any) -> int:
    """Dollars, written as a string or integer (a TOML float has already lost digits), to nano-dollars."""
    if isinstance(value, float):
        raise ValueError('write the price as a string, "0.15"')  # noqa: TRY004 - pydantic turns it into a field error
    try:
        nano = Decimal(value) * NANO
    except (InvalidOperation, TypeError):
        raise ValueError("a price is a number of dollars, as a string") from None
    if not nano.is_finite() or nano != nano.to_integral_value() or nano < 0:
        raise ValueError("a price is a whole, positive number of nano-dollars")
    return int(nano)


Dollars = Annotated[int, BeforeValidator(_nano_dollars)]
