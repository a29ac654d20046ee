"""Workers: take work from Kafka, keep an engine's batch full, publish deltas and completions."""
