-- Another model may run an answered request, too, to learn which answers it would have given (docs/routing.md).

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS `shadow_of` LowCardinality(String) COMMENT 'of a shadow run: the model whose answer it is compared with' AFTER `unbilled_nano`,
    ADD COLUMN IF NOT EXISTS `agreement` LowCardinality(String) COMMENT 'of a shadow run: same or other, as what both answers come to; empty when one has none' AFTER `shadow_of`,
    ADD COLUMN IF NOT EXISTS `answer_kind` LowCardinality(String) COMMENT 'what is compared: json, call, final (an answer that the text names) or text; of both runs' AFTER `agreement`,
    ADD COLUMN IF NOT EXISTS `mean_logprob` Nullable(Float64) COMMENT 'of the answer''s own tokens; of both runs, where the engine tells' AFTER `answer_kind`,
    ADD COLUMN IF NOT EXISTS `doubt` LowCardinality(String) COMMENT 'what is wrong with the answer in itself: invalid, refusal or length; of both runs' AFTER `mean_logprob`,
    COMMENT COLUMN `kind` 'usage (one per request), escalated (a first attempt whose answer did not stand), shadow (another model''s run, to compare) or waste (a second run after a crash): none of these is billed but usage; adjustment, credit';

CREATE OR REPLACE VIEW margin_daily
(
    `day` Date COMMENT 'UTC',
    `tenant` LowCardinality(String) COMMENT 'who pays',
    `model` LowCardinality(String) COMMENT 'the model that served it; empty when it never ran, and for a credit without a request',
    `requests` UInt64 COMMENT 'requests that ended, whether billed or not',
    `cost_nano` Int64 COMMENT 'billed, with adjustments and credits, nano-dollars',
    `gpu_nano` Int64 COMMENT 'what their shares of the GPUs cost us, nano-dollars',
    `margin_nano` Int64 COMMENT 'billed less that; idle GPUs, waste and shadow runs are no request''s (gpu_hourly)',
    `waste_gpu_nano` Int64 COMMENT 'GPU cost of second runs after crashes',
    `engine_us` UInt64 COMMENT 'shares of the engines'' time, microseconds',
    `shadow_gpu_nano` Int64 COMMENT 'GPU cost of other models'' runs, to compare'
)
AS SELECT
    day, tenant, model,
    sumIf(n, kind = 'usage') AS requests,
    sum(n_nano) AS cost_nano,
    sumIf(n_gpu_nano, kind NOT IN ('waste', 'shadow')) AS gpu_nano,
    sum(n_nano) - sumIf(n_gpu_nano, kind NOT IN ('waste', 'shadow')) AS margin_nano,
    sumIf(n_gpu_nano, kind = 'waste') AS waste_gpu_nano,
    sumIf(n_engine_us, kind NOT IN ('waste', 'shadow')) AS engine_us,
    sumIf(n_gpu_nano, kind = 'shadow') AS shadow_gpu_nano
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
