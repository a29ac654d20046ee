"""Every stage, in the order of a request's way through them. A new stage is one file and one line here."""

from streams.control import control
from streams.dedupe import dedupe
from streams.meter import meter
from streams.settle import settle
from streams.stage import House, Stage
from streams.tally import tally


def stages(house: House) -> list[Stage]:
    return [
        dedupe(house),
        meter(house),
        settle(house),
        control(house),
        tally(house),
    ]
