"""Moves results from the log to the sinks: one cursor a sink, retries, dead-letter queue."""
