"""Records on `control`: what becomes of a request that runs, or will.

A caller's wish may be written here or on `requests`; either way the owner of the key decides on it, in the log's order,
and tells the workers by an order, which names the claim that it is about.
"""

from enum import StrEnum

from pydantic import Field

from contracts.headers import HeaderModel


class ControlType(StrEnum):
    CANCEL = "millrace.cancel.v1"  # a caller's wish
    ABORT = "millrace.abort.v1"  # an order: end this run with what it has, or never begin it
    LOCATE = "millrace.locate.v1"  # a question: where in its queue is this run; answered to `reply-to` by who has it
    DRAIN = "millrace.drain.v1"  # an order: nobody listens to this run any more; go on without deltas


class Control(HeaderModel):
    """Headers; the value is empty, the record key names the request."""

    ce_id: str = ""
    ce_type: ControlType = ControlType.CANCEL
    reply_to: str | None = None
    claim: str = Field("", description="of an order or question: the run that it is about, <partition>.<offset>")
