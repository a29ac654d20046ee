-- The view of requests with feedback, with what came into `usage` after it was made, and a comment on every column.

CREATE OR REPLACE VIEW judged
(
    `kind` LowCardinality(String) COMMENT 'usage',
    `event_id` String COMMENT 'unique; made from the request''s identity, so that a replay makes the same',
    `event_time` DateTime64(3, 'UTC') COMMENT 'when the outcome was recorded in Kafka; of an adjustment, that of the request it corrects',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `idempotency_key` String COMMENT 'the request''s key, unique within the tenant',
    `claim` String COMMENT 'partition.offset on topic requests of the record that began it',
    `user` String COMMENT 'the tenant''s user, as the caller named it',
    `feature` LowCardinality(String) COMMENT 'the tenant''s feature, as the caller named it',
    `tags` Map(String, String) COMMENT 'the caller''s own names and values',
    `api_key_id` LowCardinality(String) COMMENT 'id of the API key (never the key); empty for direct producers',
    `operation` LowCardinality(String) COMMENT 'chat or text_completion; empty for a credit without a request',
    `requested_model` LowCardinality(String) COMMENT 'the model that the caller asked for; auto lets the router choose',
    `model` LowCardinality(String) COMMENT 'the model that served it; empty when it never ran',
    `model_version` LowCardinality(String) COMMENT 'version of that model',
    `engine` LowCardinality(String) COMMENT 'synthetic, openai or vllm',
    `worker` LowCardinality(String) COMMENT 'the worker that ran it',
    `run` String COMMENT 'names this execution; another one of the same request has another run',
    `lane` LowCardinality(String) COMMENT 'interactive or batch',
    `route` LowCardinality(String) COMMENT 'the routing rule that chose the model',
    `fallback_from` LowCardinality(String) COMMENT 'the model that should have served it, when another one did',
    `fallback_reason` LowCardinality(String) COMMENT 'why: no_worker, failing or over_capacity',
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
    `engine_us` UInt64 COMMENT 'its share of the engine''s time, microseconds, by tokens computed',
    `price_version` LowCardinality(String) COMMENT 'version of the price table behind the cost; empty when not billed',
    `cost_nano` Int64 COMMENT 'billed, nano-dollars (1e-9 $)',
    `attempt` UInt8 COMMENT 'of the request: 2 when a first answer did not stand',
    `escalated` LowCardinality(String) COMMENT 'why the first answer did not stand, on both attempts'' rows: unsure, invalid, refusal or length',
    `unbilled_nano` Int64 COMMENT 'what an attempt that is not billed would have cost, nano-dollars',
    `answer_kind` LowCardinality(String) COMMENT 'what a shadow run''s answer is compared by: json, call, final (an answer that the text names) or text',
    `mean_logprob` Nullable(Float64) COMMENT 'of the answer''s own tokens, where the engine tells',
    `doubt` LowCardinality(String) COMMENT 'what is wrong with the answer in itself: invalid, refusal or length',
    `gpu_nano` Int64 COMMENT 'what its share of the engine''s GPUs costs us, nano-dollars; billed to nobody',
    `trace_id` String COMMENT 'W3C trace id',
    `topic` LowCardinality(String) COMMENT 'Kafka topic of the event',
    `partition` UInt16 COMMENT 'Kafka partition of the event',
    `offset` UInt64 COMMENT 'Kafka offset of the event',
    `inserted_at` DateTime64(3, 'UTC') COMMENT 'when it came into the ledger',
    `score` Float64 COMMENT 'how good the answer was, the latest: 0 useless, 1 right; 0.5 and more counts as right',
    `label` String COMMENT 'what it was about, in the caller''s words',
    `given_at` DateTime64(3, 'UTC') COMMENT 'when that was said'
)
AS SELECT *
FROM
(
    SELECT *
    FROM usage
    WHERE kind = 'usage' AND outcome IN ('succeeded', 'timed_out', 'cancelled')
        AND (tenant, idempotency_key) IN (SELECT tenant, idempotency_key FROM feedback)
    ORDER BY event_time DESC
    LIMIT 1 BY tenant, idempotency_key
) AS ran
INNER JOIN
(
    SELECT tenant, idempotency_key,
        argMax(f.score, (f.given_at, f.offset)) AS score,
        argMax(f.label, (f.given_at, f.offset)) AS label,
        max(f.given_at) AS given_at
    FROM feedback AS f
    GROUP BY tenant, idempotency_key
) AS said
USING (tenant, idempotency_key)
COMMENT 'Requests that got feedback, each once: the columns of usage, and the latest score, label and given_at.';
