-- Answers to the common questions, kept with each part of the table, so that they can't disagree with its rows
-- (docs/analytics.md). `kind` is among the keys: what is a request, waste or a credit is told apart afterwards.

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS `about` String COMMENT 'event_id of the request that an adjustment or credit is about' AFTER `trace_id`,
    ADD COLUMN IF NOT EXISTS `reason` String COMMENT 'why an adjustment or credit was made' AFTER `about`,
    COMMENT COLUMN `kind` 'usage (one per request); waste (a second run after a crash), never billed; adjustment (another price), credit',
    COMMENT COLUMN `event_time` 'when the outcome was recorded in Kafka; of an adjustment, that of the request it corrects',
    COMMENT COLUMN `operation` 'chat or text_completion; empty for a credit without a request',
    ADD PROJECTION IF NOT EXISTS daily
    (
        SELECT
            tenant, feature, model, model_version, kind, toDate(event_time),
            count(), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(engine_us), sum(cost_nano)
        GROUP BY tenant, feature, model, model_version, kind, toDate(event_time)
    ),
    ADD PROJECTION IF NOT EXISTS hourly
    (
        SELECT
            tenant, kind, toStartOfHour(event_time),
            count(), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(engine_us), sum(cost_nano)
        GROUP BY tenant, kind, toStartOfHour(event_time)
    ),
    ADD PROJECTION IF NOT EXISTS users
    (
        SELECT
            tenant, user, kind, toDate(event_time),
            count(), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(engine_us), sum(cost_nano)
        GROUP BY tenant, user, kind, toDate(event_time)
    ),
    ADD PROJECTION IF NOT EXISTS latency
    (
        SELECT
            model, lane, kind, toStartOfHour(event_time), count(),
            quantilesDD(0.01, 0.5, 0.95, 0.99)(ttft_ms),
            quantilesDD(0.01, 0.5, 0.95, 0.99)(queue_ms),
            quantilesDD(0.01, 0.5, 0.95, 0.99)(total_ms)
        GROUP BY model, lane, kind, toStartOfHour(event_time)
    );

-- DELETE is refused beside projections, unless they are made again.
ALTER TABLE usage MODIFY SETTING lightweight_mutation_projection_mode = 'rebuild';

-- For rows that are there already: in the background, part by part.
ALTER TABLE usage
    MATERIALIZE PROJECTION daily,
    MATERIALIZE PROJECTION hourly,
    MATERIALIZE PROJECTION users,
    MATERIALIZE PROJECTION latency;
