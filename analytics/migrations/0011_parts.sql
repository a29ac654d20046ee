-- A block of events becomes a part in which all columns share a file: a file for each column, written and synced, costs
-- more than the rows in it. Larger parts, which come of merges, have a file for each column again (docs/performance.md).

ALTER TABLE usage MODIFY SETTING min_bytes_for_wide_part = 67108864;
