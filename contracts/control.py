"""Records on `control`: what a caller wants of a request that already runs."""

from enum import StrEnum

from contracts.headers import HeaderModel


class ControlType(StrEnum):
    CANCEL = "millrace.cancel.v1"


class Control(HeaderModel):
    """Headers; the value is empty, the record key names the request."""

    ce_id: str = ""
    ce_type: ControlType = ControlType.CANCEL
    reply_to: str | None = None
