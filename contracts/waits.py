"""How long work waits for its turn in a lane: one formula, for whoever tells a wait and whoever decides by it."""

from collections.abc import Mapping

from contracts.workers import LaneLoad, Queued


def until_start_ms(load: LaneLoad, tokens_ahead: float) -> int | None:
    """Until a place is free for what has so much work before it in the lane; None when no speed is known yet.

    The next places become free as those that run end; whatever waits longer waits for whole rounds of requests.
    """
    rounds, place = divmod(requests_in(load, tokens_ahead), load.places)
    frees = load.frees_ms or (0,)
    until = frees[int(place / load.places * len(frees))]
    if not rounds and not until:
        return 0
    if load.ms_per_token is None:
        return None
    return round(until + rounds * load.ms_per_token * _mean_tokens(load))


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
