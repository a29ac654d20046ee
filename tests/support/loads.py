"""Beats, made up: a worker with four places that takes a second for a request of 100 tokens."""

from typing import Any

from contracts.workers import Beat, LaneLoad, ModelLoad, Outcomes, Queued

LANES = ("interactive", "batch")


def lane(requests: int = 0, name: str = "interactive", **fields: Any) -> LaneLoad:
    """With so many of tenant `acme` waiting; idle without."""
    busy = {"running": 4, "frees_ms": (250, 500, 750, 1000), "waiting": requests, "queued_tokens": requests * 100}
    busy["tenants"] = {"acme": Queued(requests * 100, 1.0)}
    known = {"lane": name, "positions": {0: 0, 1: 0, 2: 0, 3: 0}, "places": 4, "frees_ms": (0, 0, 0, 0)}
    known |= {"mean_tokens": 100, "ms_per_token": 10.0}
    return LaneLoad(**known | (busy if requests else {}) | fields)


def beat(at: int, worker: str = "w", outcomes: Outcomes | None = None, **models: LaneLoad) -> Beat:
    """`models`: each with its interactive lane."""
    told = tuple(
        ModelLoad(
            model=model,
            engine="synthetic",
            generation=1,
            room=4,
            outcomes=outcomes or Outcomes(),
            lanes=(load, lane(name="batch")),
        )
        for model, load in models.items()
    )
    return Beat(worker=worker, at=at, started_at=at, version="0", models=told)


def record(beat: Beat) -> tuple[bytes, bytes]:
    """As it stands on `workers`."""
    return beat.worker.encode(), beat.model_dump_json().encode()
