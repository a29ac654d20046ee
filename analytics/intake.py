"""A block into the ledger, come what may: the events that fit go in, the others come back with the reason."""

from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import ConsumerRecord

from analytics.block import event_line, lines, looks_whole
from analytics.ledger import Ledger, RowsRefused


class Refused(NamedTuple):
    record: ConsumerRecord
    reason: str


def take_in(ledger: Ledger, records: Sequence[ConsumerRecord]) -> list[Refused]:
    """The bytes as they came if all fit, which is nearly always; else each event is looked at. Blocking. Raises
    ClickHouseError when the whole block must be tried again."""
    if looks_whole(records):
        try:
            ledger.insert(lines(records), len(records))
        except RowsRefused:
            pass
        else:
            return []
    return _one_by_one(ledger, records)


def _one_by_one(ledger: Ledger, records: Sequence[ConsumerRecord]) -> list[Refused]:
    refused: list[Refused] = []
    fitting: list[tuple[ConsumerRecord, bytes]] = []
    for record in records:
        try:
            fitting.append((record, event_line(record)))
        except ValueError as error:
            refused.append(Refused(record, str(error)))
    return refused + _halve(ledger, fitting)


def _halve(ledger: Ledger, fitting: Sequence[tuple[ConsumerRecord, bytes]]) -> list[Refused]:
    """What fits the contract and still not the ledger (a count beyond 32 bits, say) is found by halving."""
    if not fitting:
        return []
    try:
        ledger.insert((line for _, line in fitting), len(fitting))
    except RowsRefused as error:
        if len(fitting) == 1:
            return [Refused(fitting[0][0], f"The ledger refused it: {error}")]
        middle = len(fitting) // 2
        return _halve(ledger, fitting[:middle]) + _halve(ledger, fitting[middle:])
    return []
