-- The ledger: one row per request, and one per wasted run. A plain MergeTree, exact by construction (analytics/ledger.py).

CREATE TABLE IF NOT EXISTS usage
(
    `event_id` String COMMENT 'unique; made from the request''s identity, so that a replay makes the same',
    `event_time` DateTime64(3, 'UTC') COMMENT 'when the outcome was recorded in Kafka',
    `kind` LowCardinality(String) COMMENT 'usage (one per request), or waste (a second run after a crash; never billed)',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `idempotency_key` String COMMENT 'the request''s key, unique within the tenant',
    `claim` String COMMENT 'partition.offset on topic requests of the record that began it',
    `user` String COMMENT 'the tenant''s user, as the caller named it',
    `feature` LowCardinality(String) COMMENT 'the tenant''s feature, as the caller named it',
    `tags` Map(String, String) COMMENT 'the caller''s own names and values',
    `api_key_id` LowCardinality(String) COMMENT 'id of the API key (never the key); empty for direct producers',
    `operation` LowCardinality(String) COMMENT 'chat or text_completion',
    `requested_model` LowCardinality(String) COMMENT 'the model that the caller asked for; auto lets the router choose',
    `model` LowCardinality(String) COMMENT 'the model that served it; empty when it never ran',
    `model_version` LowCardinality(String) COMMENT 'version of that model',
    `engine` LowCardinality(String) COMMENT 'synthetic, openai or vllm',
    `worker` LowCardinality(String) COMMENT 'the worker that ran it',
    `run` String COMMENT 'names this execution; another one of the same request has another run',
    `lane` LowCardinality(String) COMMENT 'interactive or batch',
    `route` LowCardinality(String) COMMENT 'the routing rule that chose the model',
    `router_version` LowCardinality(String) COMMENT 'version of the routing policy',
    `complexity` Float64 COMMENT 'the router''s score, 0 to 1',
    `outcome` LowCardinality(String) COMMENT 'succeeded, failed, rejected, expired, timed_out or cancelled',
    `status` UInt16 COMMENT 'HTTP status of the answer',
    `finish_reason` LowCardinality(String) COMMENT 'why generation ended: stop, length, ...',
    `streamed` Bool COMMENT 'whether the caller asked for a stream',
    `prompt_tokens` UInt32 COMMENT 'tokens in, cached ones included',
    `cached_tokens` UInt32 COMMENT 'tokens in that were found in the prefix cache',
    `completion_tokens` UInt32 COMMENT 'tokens out',
    `reserved_tokens` UInt32 COMMENT 'tokens that the meter set aside on admission',
    `accepted_at` DateTime64(3, 'UTC') COMMENT 'Kafka had the request',
    `deduped_at` DateTime64(3, 'UTC') COMMENT 'recognised as the first of its key',
    `admitted_at` Nullable(DateTime64(3, 'UTC')) COMMENT 'within its limits, and routed; NULL when it was not',
    `started_at` Nullable(DateTime64(3, 'UTC')) COMMENT 'the engine began; NULL when it never ran',
    `first_token_at` Nullable(DateTime64(3, 'UTC')) COMMENT 'first token out; NULL when there was none',
    `finished_at` DateTime64(3, 'UTC') COMMENT 'the outcome was reached',
    `engine_us` UInt64 COMMENT 'engine time, microseconds',
    `price_version` LowCardinality(String) COMMENT 'version of the price table behind the cost; empty when not billed',
    `cost_nano` Int64 COMMENT 'billed, nano-dollars (1e-9 $)',
    `trace_id` String COMMENT 'W3C trace id',
    `topic` LowCardinality(String) COMMENT 'Kafka topic of the event',
    `partition` UInt16 COMMENT 'Kafka partition of the event',
    `offset` UInt64 COMMENT 'Kafka offset of the event',
    `inserted_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'when it came into the ledger',
    `queue_ms` Nullable(Int64) MATERIALIZED dateDiff('millisecond', accepted_at, started_at) COMMENT 'accepted to engine, ms',
    `ttft_ms` Nullable(Int64) MATERIALIZED dateDiff('millisecond', accepted_at, first_token_at) COMMENT 'accepted to first token, ms',
    `total_ms` Int64 MATERIALIZED dateDiff('millisecond', accepted_at, finished_at) COMMENT 'accepted to finished, ms',
    INDEX by_key idempotency_key TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (tenant, event_time, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'The ledger: one row per request and per wasted run. Bills count kind = ''usage''. Money is nano-dollars, time UTC.';
