"""How long work waits for its turn in a lane: one formula, for whoever tells a wait and whoever decides by it."""

import heapq
from collections.abc import Mapping, Sequence
from functools import lru_cache

from contracts.workers import LaneLoad, Queued

_ROUNDS = 4  # that are played through; by then ends are so spread that one round is like the next
_PLACES = 64  # that are played with: more behave alike
GOLDEN = 0.618033988749895  # multiples of it, modulo 1, are spread as evenly as can be, however many they are


def until_start_ms(load: LaneLoad, tokens_ahead: float, came_ms: int = 0) -> int | None:
    """Until a place is free for what has so much work before it in the lane, from the time when `load` was told; None
    when no speed is known yet. `came_ms`: when the first work came that `load` doesn't know of, from then on.

    The next places become free as those that run end, then as those end that take these places, and so on: work that
    came all at once ends in waves.
    """
    position = requests_in(load, tokens_ahead)
    frees = load.frees_ms or (0,)
    if load.ms_per_token is None:
        return 0 if position < load.places and not frees[int(position / load.places * len(frees))] else None
    places = min(load.places, _PLACES)
    played, position = _ROUNDS * places, position / load.places * places
    told = min(round(requests_in(load, load.queued_tokens) / load.places * places), played)
    round_ms = load.ms_per_token * _mean_tokens(load)
    starts = _starts(frees, load.spread or (1.0,), places, round_ms, told, came_ms if told < played else 0)
    beyond = max(position - played + 1, 0) / places
    return round(starts[int(min(position, played - 1))] + beyond * round_ms)


@lru_cache(maxsize=256)
def _starts(
    frees_ms: tuple[int, ...], spread: tuple[float, ...], places: int, round_ms: float, told: int, came_ms: int
) -> Sequence[float]:
    """When the first rounds' requests start, one after the other, in ms: each when a place is free, for as long as one
    takes. How long is taken from the spread in an order in which any few in a row are spread alike."""
    frees = [float(frees_ms[number * len(frees_ms) // places]) for number in range(places)]
    heapq.heapify(frees)
    starts = []
    for number in range(_ROUNDS * places):
        start = max(frees[0], came_ms) if number >= told else frees[0]
        share = spread[int(number * GOLDEN % 1 * len(spread))]
        starts.append(start)
        heapq.heapreplace(frees, start + share * round_ms)
    return starts


def requests_in(load: LaneLoad, tokens: float) -> float:
    """How many requests of the lane so many tokens are."""
    return tokens / _mean_tokens(load)


def tokens_ahead(load: LaneLoad, tenant: str, more: Mapping[str, int]) -> float:
    """Of a request of that tenant which comes now. `more`: what came since the load was told, by tenant.

    Tenants take turns by tokens and weight: when all of the tenant's own has started, each other one has had its share.
    """
    own = load.tenants.get(tenant, Queued(0, 1.0))
    mine = own.tokens + more.get(tenant, 0)
    waiting = {name: queued.tokens for name, queued in load.tenants.items()}
    for name, tokens in more.items():
        waiting[name] = waiting.get(name, 0) + tokens
    waiting.pop(tenant, None)
    shares = {name: load.tenants[name].weight if name in load.tenants else 1.0 for name in waiting}
    told = sum(queued.tokens for queued in load.tenants.values())
    beyond = max(load.queued_tokens - told, 0)  # of tenants that aren't told, and unread: in the partition's order
    return mine + beyond + sum(min(tokens, mine * shares[name] / own.weight) for name, tokens in waiting.items())


def _mean_tokens(load: LaneLoad) -> float:
    requests = load.waiting + load.unread
    return max(load.queued_tokens / requests if requests else load.mean_tokens, 1)
