"""Reconcile: proof, from Kafka's and ClickHouse's own records, that nothing was lost and nothing billed twice."""
