-- What callers thought of answers. A record that Kafka delivers again collapses into the one that is there.

CREATE TABLE IF NOT EXISTS feedback
(
    `tenant` LowCardinality(String) COMMENT 'whose request it was',
    `idempotency_key` String COMMENT 'the request''s key, unique within the tenant',
    `score` Float64 COMMENT 'how good the answer was: 0 useless, 1 right; 0.5 and more counts as right',
    `label` LowCardinality(String) COMMENT 'what it was about, in the caller''s words',
    `given_at` DateTime64(3, 'UTC') COMMENT 'Kafka had it',
    `partition` UInt16 COMMENT 'Kafka partition of the record',
    `offset` UInt64 COMMENT 'Kafka offset of the record'
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, idempotency_key, partition, offset)
COMMENT 'Feedback, each time that it was given. The view judged has the latest beside the request.';

-- A key is twice in the ledger when it was refused at first, or when its window had passed: the last bill counts.
CREATE VIEW IF NOT EXISTS judged AS
SELECT *
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
