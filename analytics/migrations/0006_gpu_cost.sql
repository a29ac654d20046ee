-- What requests really cost on GPUs of our own, beside what they are billed; what their engines did with the rest of the
-- time; and who was answered without a run (docs/analytics.md).

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS `gpu_nano` Int64 COMMENT 'what its share of the engine''s GPUs costs us, nano-dollars; billed to nobody' AFTER `cost_nano`,
    COMMENT COLUMN `engine_us` 'its share of the engine''s time, microseconds, by tokens computed';

CREATE TABLE IF NOT EXISTS engine_time
(
    `worker` LowCardinality(String) COMMENT 'names a process; a new start has another name',
    `model` LowCardinality(String) COMMENT 'the model that its engine serves',
    `model_version` LowCardinality(String) COMMENT 'version of that model',
    `engine` LowCardinality(String) COMMENT 'synthetic, openai or vllm',
    `sequence` UInt64 COMMENT 'of this worker''s stretches for this model, from 0',
    `last` Bool COMMENT 'the worker has left; one that ends without this was killed',
    `since` DateTime64(3, 'UTC') COMMENT 'the stretch''s beginning, which is the end of the one before',
    `until` DateTime64(3, 'UTC') COMMENT 'its end',
    `every_ms` UInt32 COMMENT 'how long stretches are: what a killed worker leaves untold at most, ms',
    `gpus` UInt16 COMMENT 'GPUs that the engine holds',
    `gpu_hour_nano` Int64 COMMENT 'what one of them costs an hour, nano-dollars',
    `wall_us` Int64 COMMENT 'its length, microseconds: idle, shared, and what under_way has grown by',
    `idle_us` Int64 COMMENT 'nothing ran; loading the model counts, too',
    `shared_us` Int64 COMMENT 'charged to requests that left the engine: engine_us of their rows',
    `under_way_us` Int64 COMMENT 'at its end, of requests that were still running: charged when they leave',
    `idle_nano` Int64 COMMENT 'what the idle time costs, nano-dollars',
    `shared_nano` Int64 COMMENT 'what the shared time costs, nano-dollars: gpu_nano of their rows',
    `requests` UInt64 COMMENT 'left the engine, however they ended',
    `prompt_tokens` UInt64 COMMENT 'computed; those that the prefix cache had are not among them',
    `completion_tokens` UInt64 COMMENT 'computed',
    `seat_us` Int64 COMMENT 'time in the engine of all requests together: by busy time, the mean batch',
    `most_running` UInt32 COMMENT 'requests at once, at most'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(since)
ORDER BY (model, since, worker, sequence)
COMMENT 'What each engine did with its time, in stretches without a gap. Read it with FINAL: what Kafka delivers again is there twice for a while.';

CREATE TABLE IF NOT EXISTS duplicates
(
    `tenant` LowCardinality(String) COMMENT 'who asked again',
    `at` DateTime64(3, 'UTC') COMMENT 'when',
    `place` String COMMENT 'partition.offset on topic requests of the record that asked',
    `feature` LowCardinality(String) COMMENT 'the tenant''s feature, as the caller named it',
    `about` String COMMENT 'event_id of the request whose answer it got',
    `how` LowCardinality(String) COMMENT 'joined: while it ran; replayed: after it had ended'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (tenant, at, place)
COMMENT 'Requests that were answered without a run of their own. Read it with FINAL, like engine_time.';

ALTER TABLE usage
    DROP PROJECTION IF EXISTS daily,
    DROP PROJECTION IF EXISTS hourly,
    DROP PROJECTION IF EXISTS users
SETTINGS mutations_sync = 2;

ALTER TABLE usage
    ADD PROJECTION IF NOT EXISTS daily
    (
        SELECT
            tenant, feature, model, model_version, kind, toDate(event_time),
            count(), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(engine_us), sum(cost_nano),
            sum(gpu_nano)
        GROUP BY tenant, feature, model, model_version, kind, toDate(event_time)
    ),
    ADD PROJECTION IF NOT EXISTS hourly
    (
        SELECT
            tenant, kind, toStartOfHour(event_time),
            count(), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(engine_us), sum(cost_nano),
            sum(gpu_nano)
        GROUP BY tenant, kind, toStartOfHour(event_time)
    ),
    ADD PROJECTION IF NOT EXISTS users
    (
        SELECT
            tenant, user, kind, toDate(event_time),
            count(), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(engine_us), sum(cost_nano),
            sum(gpu_nano)
        GROUP BY tenant, user, kind, toDate(event_time)
    );

ALTER TABLE usage
    MATERIALIZE PROJECTION daily,
    MATERIALIZE PROJECTION hourly,
    MATERIALIZE PROJECTION users;

CREATE VIEW IF NOT EXISTS margin_daily
(
    `day` Date COMMENT 'UTC',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `model` LowCardinality(String) COMMENT 'the model that served it; empty when it never ran, and for a credit without a request',
    `requests` UInt64 COMMENT 'requests that ended, whether billed or not',
    `cost_nano` Int64 COMMENT 'billed, with adjustments and credits, nano-dollars',
    `gpu_nano` Int64 COMMENT 'what their shares of the GPUs cost us, nano-dollars',
    `margin_nano` Int64 COMMENT 'billed less that; idle GPUs and waste are no request''s (gpu_hourly)',
    `waste_gpu_nano` Int64 COMMENT 'GPU cost of second runs after crashes',
    `engine_us` UInt64 COMMENT 'shares of the engines'' time, microseconds'
)
AS SELECT
    day, tenant, model,
    sumIf(n, kind = 'usage') AS requests,
    sum(n_nano) AS cost_nano,
    sumIf(n_gpu_nano, kind != 'waste') AS gpu_nano,
    sum(n_nano) - sumIf(n_gpu_nano, kind != 'waste') AS margin_nano,
    sumIf(n_gpu_nano, kind = 'waste') AS waste_gpu_nano,
    sumIf(n_engine_us, kind != 'waste') AS engine_us
FROM
(
    SELECT
        toDate(event_time) AS day, tenant, model, kind, count() AS n, sum(engine_us) AS n_engine_us,
        sum(cost_nano) AS n_nano, sum(gpu_nano) AS n_gpu_nano
    FROM usage
    GROUP BY day, tenant, model, kind
)
GROUP BY day, tenant, model
COMMENT 'List price beside GPU cost, by day, tenant and model. Money is nano-dollars, time UTC.';

CREATE VIEW IF NOT EXISTS gpu_hourly
(
    `hour` DateTime('UTC') COMMENT 'in which the stretches began',
    `model` LowCardinality(String) COMMENT 'the model that the engines serve',
    `gpu_hours` Float64 COMMENT 'GPUs by hours of their engines',
    `gpu_nano` Int64 COMMENT 'what these cost, nano-dollars: idle, shared and under way together',
    `idle_nano` Int64 COMMENT 'while nothing ran',
    `shared_nano` Int64 COMMENT 'charged to requests that left the engine',
    `under_way_nano` Int64 COMMENT 'of requests that run on into the next hour, less what the hour before had left',
    `requests` UInt64 COMMENT 'left the engine, however they ended',
    `prompt_tokens` UInt64 COMMENT 'computed; those that the prefix cache had are not among them',
    `completion_tokens` UInt64 COMMENT 'computed',
    `mean_batch` Float64 COMMENT 'requests in the engine while it was busy',
    `most_running` UInt32 COMMENT 'requests in one engine at once, at most'
)
AS SELECT
    toStartOfHour(since) AS hour, model,
    sum(wall_us * gpus) / 3600000000 AS gpu_hours,
    toInt64(intDiv(sum(toInt128(wall_us) * gpus * gpu_hour_nano), 3600000000)) AS gpu_nano,
    sum(t.idle_nano) AS idle_nano,
    sum(t.shared_nano) AS shared_nano,
    toInt64(intDiv(sum(toInt128(wall_us) * gpus * gpu_hour_nano), 3600000000)) - sum(t.idle_nano) - sum(t.shared_nano) AS under_way_nano,
    sum(t.requests) AS requests,
    sum(t.prompt_tokens) AS prompt_tokens,
    sum(t.completion_tokens) AS completion_tokens,
    if(sum(wall_us) = sum(idle_us), 0, sum(seat_us) / (sum(wall_us) - sum(idle_us))) AS mean_batch,
    max(t.most_running) AS most_running
FROM engine_time AS t FINAL
GROUP BY hour, model
COMMENT 'What GPUs cost and did, by hour and model. Money is nano-dollars, time UTC.';
