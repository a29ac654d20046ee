"""Control: a wish that a direct producer wrote on `control` goes to `requests`, behind the request that it is about.

There the owner of the key takes it in the log's order: what was asked before it is known when it comes.
"""

from contracts.control import Control, ControlType
from contracts.errors import InvalidRequest
from contracts.keys import RequestKey
from contracts.topics import REQUEST_TABLE, Topics
from streams.dead_letters import dead_letter
from streams.records import Output, Record
from streams.stage import House, Stage

STAGE = "control"


def control(house: House) -> Stage:
    passage = Passage(house.topics)
    return Stage(STAGE, house.topics.control, REQUEST_TABLE, house.settings.request_partitions, lambda _: passage)


class Passage:
    """It needs no state: where the wish lands, its partition's owner has it."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def decide(self, record: Record) -> list[Output]:
        try:
            RequestKey.decode(record.key)
            wish = Control.from_headers(record.headers)
        except InvalidRequest as error:
            return [dead_letter(self._topics, STAGE, record, error.message)]
        if wish.ce_type is not ControlType.CANCEL:
            return []  # an order of our own, for the workers
        named = [("ce_type", ControlType.CANCEL.encode()), ("ce_id", (wish.ce_id or record.position).encode())]
        rest = [pair for pair in record.headers if pair[0] not in ("ce_type", "ce_id")]
        return [Output(self._topics.requests, record.key, record.value, [*rest, *named])]

    def close(self) -> None:
        """Nothing is left to put."""
