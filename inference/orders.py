"""What the owner of a request has ordered: known by the claim, whether it runs, waits, or is yet to come."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import structlog
from aiokafka import ConsumerRecord

from contracts.control import Control, ControlType
from contracts.errors import InvalidRequest

log = structlog.get_logger()
_REMEMBERED = 500_000  # claims, about 100 bytes each


class Order:
    """How one run stands to its orders."""

    def __init__(self, *, aborted: bool = False, drained: bool = False) -> None:
        self.aborted = aborted  # it ends with what it has
        self.drained = drained  # nobody listens: it goes on without deltas
        self._abort: Callable[[], None] | None = None

    @contextmanager
    def obeyed_by(self, abort: Callable[[], None]) -> Iterator[None]:
        """`abort` is called once it must end; at once when that was ordered before."""
        self._abort = abort
        try:
            if self.aborted:
                abort()
            yield
        finally:
            self._abort = None

    def obey(self, kind: ControlType) -> None:
        if kind is ControlType.DRAIN:
            self.drained = True
        elif not self.aborted:
            self.aborted = True
            if self._abort:
                self._abort()


class Orders:
    """Of all models of a process."""

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._given: OrderedDict[str, ControlType] = OrderedDict()  # by claim
        self._running: dict[str, list[Order]] = {}  # by claim: a cascade's first attempt may come again after a crash
        self._on_abort: list[Callable[[str], None]] = []
        self._on_question: list[Callable[[bytes, Control], None]] = []

    def on_abort(self, end: Callable[[str], None]) -> None:
        """Called with the claim of what needn't wait for its turn any longer."""
        self._on_abort.append(end)

    def on_question(self, answer: Callable[[bytes, Control], None]) -> None:
        """Called with the record key of a request and the question where it stands."""
        self._on_question.append(answer)

    def apply(self, records: Iterable[ConsumerRecord]) -> None:
        """From `control`, where callers' wishes are too: those are for the owner of the key."""
        for record in records:
            try:
                control = Control.from_headers(record.headers)
            except InvalidRequest as error:
                log.warning("not an order", offset=record.offset, reason=error.message)
                continue
            if control.ce_type is ControlType.LOCATE:
                for answer in self._on_question:
                    answer(record.key or b"", control)
            elif control.claim and control.ce_type is not ControlType.CANCEL:
                self._take(control.claim, control.ce_type)

    @contextmanager
    def of(self, claim: str) -> Iterator[Order]:
        """While it runs."""
        given = self._given.get(claim)
        order = Order(aborted=given is ControlType.ABORT, drained=given is ControlType.DRAIN)
        running = self._running.setdefault(claim, [])
        running.append(order)
        try:
            yield order
        finally:
            running.remove(order)
            if not running and self._running.get(claim) is running:
                del self._running[claim]

    def end(self, claim: str) -> None:
        """What runs gives way, though its owner has ordered nothing."""
        for order in self._running.get(claim, ()):
            order.obey(ControlType.ABORT)

    def _take(self, claim: str, kind: ControlType) -> None:
        if self._given.get(claim) is not ControlType.ABORT:
            self._given[claim] = kind
        if len(self._given) > self._remembered:
            self._given.popitem(last=False)
        if running := self._running.get(claim):
            for order in running:
                order.obey(kind)
        elif kind is ControlType.ABORT:
            for end in self._on_abort:
                end(claim)
