"""A service of the rig, with faults that no signal can make.

    python -m tests.chaos.launcher SWITCHES SERVICE [KEEPER]

It runs the service's own program unchanged; a thread follows the switches. KEEPER: see small_disk.py.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.chaos.clock import Clock
from tests.chaos.small_disk import enter
from tests.chaos.switches import CLOCK, Switches

_LOOK_SECONDS = 0.1


def main(folder: str, service: str, keeper: str | None = None) -> None:
    if keeper:
        enter(int(keeper))
    switches, clock = Switches(Path(folder)), Clock()
    clock.ahead = switches.get(CLOCK)
    clock.install()
    looks: list[Callable[[], None]] = [lambda: setattr(clock, "ahead", switches.get(CLOCK))]
    if service == "analytics":
        from tests.chaos.bad_ledger import BadLedger  # noqa: PLC0415 - after the clock; and slow to import

        looks.append(BadLedger(switches).look)
    threading.Thread(target=_follow, args=(looks,), daemon=True).start()
    from millrace.cli import main as millrace  # noqa: PLC0415 - whoever says `from time import time` must get ours

    sys.argv = ["millrace", service]
    millrace()


def _follow(looks: list[Callable[[], None]]) -> None:
    pause = threading.Event()
    while not pause.wait(_LOOK_SECONDS):
        for look in looks:
            look()


if __name__ == "__main__":
    main(*sys.argv[1:])
