-- What analysts ask most, by name. Each view is answered from a projection of `usage`, so it costs no rows of its own and
-- can't disagree with them (docs/analytics.md).

CREATE VIEW IF NOT EXISTS cost_daily
(
    `day` Date COMMENT 'UTC',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `feature` LowCardinality(String) COMMENT 'the tenant''s feature',
    `model` LowCardinality(String) COMMENT 'the model that served it; empty when it never ran, and for a credit without a request',
    `model_version` LowCardinality(String) COMMENT 'version of that model',
    `requests` UInt64 COMMENT 'requests that ended, whether billed or not',
    `prompt_tokens` UInt64 COMMENT 'tokens in, cached ones included',
    `cached_tokens` UInt64 COMMENT 'tokens in that were found in the prefix cache',
    `completion_tokens` UInt64 COMMENT 'tokens out',
    `cost_nano` Int64 COMMENT 'cost with adjustments and credits, nano-dollars',
    `cost_dollars` Decimal(38, 9) COMMENT 'the same in dollars, exact',
    `adjusted_nano` Int64 COMMENT 'what other prices make of it (millrace reprice); part of the cost',
    `credited_nano` Int64 COMMENT 'credits, below zero; part of the cost',
    `waste_runs` UInt64 COMMENT 'second runs after crashes, never billed',
    `waste_tokens` UInt64 COMMENT 'tokens of these, in and out',
    `engine_us` UInt64 COMMENT 'engine time of requests, microseconds'
)
AS SELECT
    day, tenant, feature, model, model_version,
    sumIf(n, kind = 'usage') AS requests,
    sumIf(n_prompt, kind = 'usage') AS prompt_tokens,
    sumIf(n_cached, kind = 'usage') AS cached_tokens,
    sumIf(n_completion, kind = 'usage') AS completion_tokens,
    sum(n_nano) AS cost_nano,
    toDecimal128(sum(n_nano), 9) / 1000000000 AS cost_dollars,
    sumIf(n_nano, kind = 'adjustment') AS adjusted_nano,
    sumIf(n_nano, kind = 'credit') AS credited_nano,
    sumIf(n, kind = 'waste') AS waste_runs,
    sumIf(n_prompt + n_completion, kind = 'waste') AS waste_tokens,
    sumIf(n_engine_us, kind = 'usage') AS engine_us
FROM
(
    SELECT
        toDate(event_time) AS day, tenant, feature, model, model_version, kind, count() AS n,
        sum(prompt_tokens) AS n_prompt, sum(cached_tokens) AS n_cached, sum(completion_tokens) AS n_completion,
        sum(engine_us) AS n_engine_us, sum(cost_nano) AS n_nano
    FROM usage
    GROUP BY day, tenant, feature, model, model_version, kind
)
GROUP BY day, tenant, feature, model, model_version
COMMENT 'Cost by day, tenant, feature, model and version. Money is nano-dollars, time UTC.';

CREATE VIEW IF NOT EXISTS cost_hourly
(
    `hour` DateTime('UTC') COMMENT 'its beginning',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `requests` UInt64 COMMENT 'requests that ended, whether billed or not',
    `prompt_tokens` UInt64 COMMENT 'tokens in, cached ones included',
    `cached_tokens` UInt64 COMMENT 'tokens in that were found in the prefix cache',
    `completion_tokens` UInt64 COMMENT 'tokens out',
    `cost_nano` Int64 COMMENT 'cost with adjustments and credits, nano-dollars',
    `cost_dollars` Decimal(38, 9) COMMENT 'the same in dollars, exact',
    `waste_tokens` UInt64 COMMENT 'tokens of second runs after crashes, never billed'
)
AS SELECT
    hour, tenant,
    sumIf(n, kind = 'usage') AS requests,
    sumIf(n_prompt, kind = 'usage') AS prompt_tokens,
    sumIf(n_cached, kind = 'usage') AS cached_tokens,
    sumIf(n_completion, kind = 'usage') AS completion_tokens,
    sum(n_nano) AS cost_nano,
    toDecimal128(sum(n_nano), 9) / 1000000000 AS cost_dollars,
    sumIf(n_prompt + n_completion, kind = 'waste') AS waste_tokens
FROM
(
    SELECT
        toStartOfHour(event_time) AS hour, tenant, kind, count() AS n, sum(prompt_tokens) AS n_prompt,
        sum(cached_tokens) AS n_cached, sum(completion_tokens) AS n_completion, sum(cost_nano) AS n_nano
    FROM usage
    GROUP BY hour, tenant, kind
)
GROUP BY hour, tenant
COMMENT 'Cost by hour and tenant. Money is nano-dollars, time UTC.';

CREATE VIEW IF NOT EXISTS cost_by_user
(
    `day` Date COMMENT 'UTC',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `user` String COMMENT 'the tenant''s user',
    `requests` UInt64 COMMENT 'requests that ended, whether billed or not',
    `prompt_tokens` UInt64 COMMENT 'tokens in, cached ones included',
    `completion_tokens` UInt64 COMMENT 'tokens out',
    `cost_nano` Int64 COMMENT 'cost with adjustments and credits, nano-dollars',
    `cost_dollars` Decimal(38, 9) COMMENT 'the same in dollars, exact'
)
AS SELECT
    day, tenant, user,
    sumIf(n, kind = 'usage') AS requests,
    sumIf(n_prompt, kind = 'usage') AS prompt_tokens,
    sumIf(n_completion, kind = 'usage') AS completion_tokens,
    sum(n_nano) AS cost_nano,
    toDecimal128(sum(n_nano), 9) / 1000000000 AS cost_dollars
FROM
(
    SELECT
        toDate(event_time) AS day, tenant, user, kind, count() AS n, sum(prompt_tokens) AS n_prompt,
        sum(completion_tokens) AS n_completion, sum(cost_nano) AS n_nano
    FROM usage
    GROUP BY day, tenant, user, kind
)
GROUP BY day, tenant, user
COMMENT 'Cost by day, tenant and user. Money is nano-dollars, time UTC.';

CREATE VIEW IF NOT EXISTS latency_hourly
(
    `hour` DateTime('UTC') COMMENT 'its beginning, by when the outcome was recorded',
    `model` LowCardinality(String) COMMENT 'the model that served it; empty when it never ran',
    `lane` LowCardinality(String) COMMENT 'interactive or batch',
    `requests` UInt64 COMMENT 'requests that ended',
    `ttft_ms` Array(Float32) COMMENT 'accepted to first token, ms: p50, p95, p99, within 1 %; NaN when there was none',
    `queue_ms` Array(Float32) COMMENT 'accepted to engine, ms: p50, p95, p99, within 1 %; NaN when none ran',
    `total_ms` Array(Float32) COMMENT 'accepted to finished, ms: p50, p95, p99, within 1 %'
)
AS SELECT
    toStartOfHour(event_time) AS hour, model, lane, count() AS requests,
    quantilesDD(0.01, 0.5, 0.95, 0.99)(usage.ttft_ms) AS ttft_ms,
    quantilesDD(0.01, 0.5, 0.95, 0.99)(usage.queue_ms) AS queue_ms,
    quantilesDD(0.01, 0.5, 0.95, 0.99)(usage.total_ms) AS total_ms
FROM usage
WHERE kind = 'usage'
GROUP BY hour, model, lane
COMMENT 'How long it took, by hour, model and lane. Milliseconds, time UTC.';

CREATE VIEW IF NOT EXISTS corrections
(
    `booked_at` DateTime64(3, 'UTC') COMMENT 'when it was made',
    `event_time` DateTime64(3, 'UTC') COMMENT 'when the request that it is about ended; of a credit without one, when it was made',
    `kind` LowCardinality(String) COMMENT 'adjustment (another price) or credit',
    `tenant` LowCardinality(String) COMMENT 'whose',
    `idempotency_key` String COMMENT 'key of the request; of a credit without one, a name of its own',
    `about` String COMMENT 'event_id of the request; empty without one',
    `model` LowCardinality(String) COMMENT 'the model that served it',
    `cost_nano` Int64 COMMENT 'what it adds to the cost, nano-dollars; below zero: what it takes away',
    `price_version` LowCardinality(String) COMMENT 'the price table behind an adjustment',
    `reason` String COMMENT 'why'
)
AS SELECT accepted_at AS booked_at, event_time, kind, tenant, idempotency_key, about, model, cost_nano, price_version, reason
FROM usage
WHERE kind IN ('adjustment', 'credit')
COMMENT 'Adjustments and credits: rows that correct others, which are never edited.';
