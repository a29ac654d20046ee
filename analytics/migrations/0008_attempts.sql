-- A request may have two attempts: the small model's, and the large one's when that answer didn't stand (docs/routing.md).

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS `attempt` UInt8 DEFAULT 1 COMMENT 'of the request: 2 when a first answer did not stand' AFTER `cost_nano`,
    ADD COLUMN IF NOT EXISTS `escalated` LowCardinality(String) COMMENT 'why the first answer did not stand, on both attempts'' rows: unsure, invalid, refusal or length' AFTER `attempt`,
    ADD COLUMN IF NOT EXISTS `unbilled_nano` Int64 COMMENT 'what an attempt that is not billed would have cost, nano-dollars' AFTER `escalated`,
    COMMENT COLUMN `kind` 'usage (one per request), escalated (a first attempt whose answer did not stand) or waste (a second run after a crash): neither is billed; adjustment, credit';
