CREATE TABLE IF NOT EXISTS forgotten
(
    `person` String COMMENT 'SHA-256 of tenant, newline, user, in hex: a rebuild from Kafka forgets them again',
    `forgotten_at` DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'what came later is told again'
)
ENGINE = MergeTree
ORDER BY person
COMMENT 'Whose data was removed from the ledger (millrace forget).';
