-- Another model may run an answered request, too, to learn which answers it would have given (docs/routing.md).

ALTER TABLE usage
    ADD COLUMN IF NOT EXISTS `shadow_of` LowCardinality(String) COMMENT 'of a shadow run: the model whose answer it is compared with' AFTER `unbilled_nano`,
    ADD COLUMN IF NOT EXISTS `agreement` LowCardinality(String) COMMENT 'of a shadow run: same or other, as what both answers come to; empty when one has none' AFTER `shadow_of`,
    ADD COLUMN IF NOT EXISTS `answer_kind` LowCardinality(String) COMMENT 'what is compared: json, call, final (an answer that the text names) or text; of both runs' AFTER `agreement`,
    ADD COLUMN IF NOT EXISTS `mean_logprob` Nullable(Float64) COMMENT 'of the answer''s own tokens; of both runs, where the engine tells' AFTER `answer_kind`,
    ADD COLUMN IF NOT EXISTS `doubt` LowCardinality(String) COMMENT 'what is wrong with the answer in itself: invalid, refusal or length; of both runs' AFTER `mean_logprob`,
    COMMENT COLUMN `kind` 'usage (one per request), escalated (a first attempt whose answer did not stand), shadow (another model''s run, to compare) or waste (a second run after a crash): none of these is billed but usage; adjustment, credit';
