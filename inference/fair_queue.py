"""Weighted fair share between tenants, in tokens: start-time fair queueing, one virtual clock for all.

A tenant that wants more than its share waits behind its own work, not in front of others'. Source: Goyal, Vin, Cheng,
"Start-time Fair Queuing", SIGCOMM 1996.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")
Rank = tuple[float, ...]  # lower first, within a tenant
_REMEMBERED = 10_000  # tenants without work


@dataclass(slots=True)
class _Flow:
    """One tenant's work. `tag` is the virtual time at which its next one is due."""

    weight: float
    tag: float
    waiting: list[tuple[Rank, int, int, object]] = field(default_factory=list)
    cost: int = 0  # of what waits


class FairQueue(Generic[T]):
    """`weight` gives a tenant's share, relative to others'. Costs are tokens."""

    def __init__(self, weight: Callable[[str], float]) -> None:
        self._weight = weight
        self._flows: dict[str, _Flow] = {}
        self._due: list[tuple[float, int, str]] = []  # of tenants with work; what a tenant's tag no longer says is void
        self._arrivals = count()
        self._now = 0.0  # virtual time
        self._length = 0
        self.cost = 0  # of all that waits

    def __len__(self) -> int:
        return self._length

    def push(self, tenant: str, item: T, cost: int, rank: Rank = ()) -> None:
        flow = self._flows.get(tenant)
        if flow is None:
            flow = self._flows[tenant] = _Flow(self._weight(tenant), self._now)
        if not flow.waiting:
            flow.tag = max(flow.tag, self._now)  # what it left unused isn't saved up
            self._announce(tenant, flow)
        heapq.heappush(flow.waiting, (rank, next(self._arrivals), cost, item))
        flow.cost += cost
        self._length += 1
        self.cost += cost

    @property
    def next_tenant(self) -> str | None:
        """The one that has had least, of those with work."""
        while self._due:
            tag, _, tenant = self._due[0]
            flow = self._flows.get(tenant)
            if flow and flow.waiting and tag == flow.tag:
                return tenant
            heapq.heappop(self._due)
        return None

    def pop(self) -> T | None:
        """The next one of that tenant."""
        tenant = self.next_tenant
        if tenant is None:
            return None
        heapq.heappop(self._due)
        flow = self._flows[tenant]
        self._now = max(self._now, flow.tag)
        _, _, cost, item = heapq.heappop(flow.waiting)
        flow.cost -= cost
        self._length -= 1
        self.cost -= cost
        self._charge(tenant, flow, cost)
        return item  # type: ignore[return-value] # only push puts something in

    def charge(self, tenant: str, tokens: int) -> None:
        """It took more than it said, or less."""
        if flow := self._flows.get(tenant):
            self._charge(tenant, flow, tokens)

    def longest(self, most: int) -> dict[str, tuple[int, float]]:
        """Cost of what waits, and weight, of the tenants that have most waiting."""
        waiting = ((flow.cost, tenant) for tenant, flow in self._flows.items() if flow.waiting)
        return {tenant: (cost, self._flows[tenant].weight) for cost, tenant in heapq.nlargest(most, waiting)}

    def ahead(self, tenant: str, item: T) -> tuple[int, int] | None:
        """How many go before one that waits, and their cost: of its own tenant exactly, of others by the mean of
        theirs. None when it doesn't wait."""
        flow = self._flows.get(tenant)
        mine = next((entry for entry in flow.waiting if entry[3] is item), None) if flow else None
        if flow is None or mine is None:
            return None
        before = [cost for rank, arrival, cost, _ in flow.waiting if (rank, arrival) < mine[:2]]
        count, total = len(before), sum(before)
        due = flow.tag + total / flow.weight
        for name, other in self._flows.items():
            if name != tenant and other.waiting and other.tag < due:
                mean = other.cost / len(other.waiting)
                first = min(int((due - other.tag) * other.weight / mean) + 1, len(other.waiting))
                count, total = count + first, total + round(first * mean)
        return count, total

    def clear(self) -> None:
        """Nothing waits any more; who had how much is remembered."""
        for flow in self._flows.values():
            flow.waiting.clear()
            flow.cost = 0
        self._due.clear()
        self._length = self.cost = 0

    def _charge(self, tenant: str, flow: _Flow, tokens: int) -> None:
        flow.tag += tokens / flow.weight
        if flow.waiting:
            self._announce(tenant, flow)
        elif len(self._flows) > _REMEMBERED:
            self._forget()

    def _announce(self, tenant: str, flow: _Flow) -> None:
        heapq.heappush(self._due, (flow.tag, next(self._arrivals), tenant))

    def _forget(self) -> None:
        """Those without work who owe nothing are as good as new."""
        self._flows = {name: flow for name, flow in self._flows.items() if flow.waiting or flow.tag > self._now}
