-- Requests that another model served than the one that should have (docs/routing.md).

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS `fallback_from` LowCardinality(String) COMMENT 'the model that should have served it, when another one did' AFTER `route`,
    ADD COLUMN IF NOT EXISTS `fallback_reason` LowCardinality(String) COMMENT 'why: no_worker, failing or over_capacity' AFTER `fallback_from`;
