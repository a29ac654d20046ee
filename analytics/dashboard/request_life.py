"""One request's life, from the ledger's rows: what happened when, how long each step took, and what is known of it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from analytics.questions import utc_ms

Row = Mapping[str, Any]
Step = dict[str, Any]
_STEPS = (
    ("accepted", "Accepted", "accepted_at"),
    ("deduped", "Deduplicated", "deduped_at"),
    ("admitted", "Admitted and routed", "admitted_at"),
    ("started", "Started on the engine", "started_at"),
    ("first_token", "First token", "first_token_at"),
    ("finished", "Finished", "finished_at"),
    ("billed", "Recorded and billed", "event_time"),
    ("stored", "In the ledger", "inserted_at"),
)
_RUNS = ("usage", "waste", "escalated", "shadow")


def life(rows: Sequence[Row]) -> dict[str, Any]:
    """`runs`: the request's own first, each with its steps; `corrections`: adjustments and credits. Times: UTC ms."""
    runs = sorted(
        (row for row in rows if row["kind"] in _RUNS), key=lambda row: (row["kind"] != "usage", row["event_time"])
    )
    corrections = [row for row in rows if row["kind"] not in _RUNS]
    return {
        "runs": [{"kind": row["kind"], "steps": steps(row), "outcome": row["outcome"]} for row in runs],
        "corrections": [_correction(row) for row in corrections],
    }


def steps(row: Row) -> list[Step]:
    """In their order, each with the time since the one before and since the first."""
    found: list[Step] = []
    first = before = utc_ms(row["accepted_at"])
    for name, title, column in _STEPS:
        moment = row[column]
        if not isinstance(moment, datetime):
            continue
        at = utc_ms(moment)
        since = {"took_ms": at - before, "total_ms": at - first}
        found.append({"step": name, "title": title, "at": at, **since, "note": _note(name, row)})
        before = at
    return found


def _note(step: str, row: Row) -> str:
    """What is worth knowing of a step, beside when it was."""
    notes = {
        "accepted": f"requests {row['claim']}",
        "deduped": "first of its key",
        "admitted": _why_routed(row),
        "started": f"{row['engine']} on {row['worker']}" if row["worker"] else "",
        "first_token": f"{row['prompt_tokens']:,} prompt tokens, {row['cached_tokens']:,} cached",
        "finished": f"{row['finish_reason'] or row['outcome']}, {row['completion_tokens']:,} tokens{_compared(row)}",
        "billed": f"price version {row['price_version']}" if row["cost_nano"] else "not billed",
        "stored": f"{row['topic']} {row['partition']}.{row['offset']}",
    }
    return notes[step]


def _compared(row: Row) -> str:
    said = {"same": f"as {row['shadow_of']} answered", "other": f"not as {row['shadow_of']} answered"}
    return f", {said[row['agreement']]}" if row["agreement"] else ""


def _why_routed(row: Row) -> str:
    if not row["route"]:
        return f"to {row['model']}, as asked" if row["model"] else ""
    return f"rule {row['route']} → {row['model']}, complexity {row['complexity']:.3f}, policy {row['router_version']}"


def _correction(row: Row) -> dict[str, Any]:
    return {
        "kind": row["kind"],
        "at": utc_ms(row["accepted_at"]),
        "cost_nano": row["cost_nano"],
        "price_version": row["price_version"],
        "reason": row["reason"],
        "place": f"{row['topic']} {row['partition']}.{row['offset']}",
    }
