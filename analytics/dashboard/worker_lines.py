"""Workers as their beats tell of them: a line for each model of each worker, and a tone where it hurts."""

from collections.abc import Sequence
from typing import Any

from contracts.workers import Beat, ModelLoad

_FULL = 0.95  # of the KV cache
_FORGOTTEN_MS = 600_000  # a worker that is silent for so long is gone, and no news any more


def worker_lines(beats: Sequence[Beat], now: int) -> list[dict[str, Any]]:
    """By model, then worker. `now`: UTC ms."""
    lines = [_line(beat, load, now) for beat in beats if now - beat.at < _FORGOTTEN_MS for load in beat.models]
    return sorted(lines, key=lambda line: (line["model"], line["worker"]))


def _line(beat: Beat, load: ModelLoad, now: int) -> dict[str, Any]:
    tone, why = _tone(beat, load, now)
    return {
        "worker": beat.worker,
        "model": load.model,
        "model_version": load.model_version,
        "engine": load.engine,
        "running": load.running,
        "room": load.room,
        "waiting": sum(lane.waiting + lane.unread for lane in load.lanes),
        "queued_tokens": sum(lane.queued_tokens for lane in load.lanes),
        "kv_used": load.kv_used,
        "prefill_tokens_per_second": load.prefill_tokens_per_second,
        "decode_tokens_per_second": load.decode_tokens_per_second,
        "ended": load.outcomes.ended,
        "failed": load.outcomes.failed,
        "partitions": sum(len(lane.positions) for lane in load.lanes),
        "started_at": beat.started_at,
        "beat_ms": max(0, now - beat.at),
        "tone": tone,
        "why": why,
    }


def _tone(beat: Beat, load: ModelLoad, now: int) -> tuple[str, str]:
    if beat.is_stale(now):
        return "bad", f"silent for {(now - beat.at) // 1000} s: dead, cut off or asleep"
    if load.kv_used is not None and load.kv_used >= _FULL:
        return "warn", "its KV cache is full"
    return "", ""
