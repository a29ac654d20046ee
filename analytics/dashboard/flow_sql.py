"""What the ledger knows of the last minute: how long each stage took, and how requests ended."""

WINDOW_SECONDS = 60
ENDS = ("ended", "succeeded", "rejected", "expired", "failed", "cancelled")

_ENDED = """
    count() AS ended,
    countIf(outcome = 'succeeded') AS succeeded,
    countIf(outcome = 'rejected') AS rejected,
    countIf(outcome = 'expired') AS expired,
    countIf(outcome IN ('failed', 'timed_out')) AS failed,
    countIf(outcome = 'cancelled') AS cancelled,
    sum(completion_tokens) AS completion_tokens,
    quantile(0.99)(dateDiff('millisecond', admitted_at, started_at)) AS queue_p99_ms,
    quantile(0.99)(dateDiff('millisecond', started_at, finished_at)) AS run_p99_ms,
    quantile(0.99)(dateDiff('millisecond', accepted_at, first_token_at)) AS ttft_p99_ms"""

_RECENT = f"""
FROM usage
WHERE kind = 'usage' AND event_time >= now64(3, 'UTC') - INTERVAL {WINDOW_SECONDS} SECOND"""

WHOLE = f"""
SELECT {_ENDED},
    quantile(0.99)(dateDiff('millisecond', accepted_at, deduped_at)) AS dedupe_p99_ms,
    quantile(0.99)(dateDiff('millisecond', deduped_at, admitted_at)) AS meter_p99_ms,
    quantile(0.99)(dateDiff('millisecond', finished_at, event_time)) AS completions_p99_ms,
    quantile(0.99)(dateDiff('millisecond', event_time, inserted_at)) AS sink_p99_ms,
    quantile(0.99)(dateDiff('millisecond', accepted_at, finished_at)) AS total_p99_ms
{_RECENT}"""

BY_LANE = f"""
SELECT model, lane, {_ENDED}
{_RECENT} AND model != ''
GROUP BY model, lane
ORDER BY model, lane"""
