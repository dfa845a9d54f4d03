"""GET /metrics: what the parts of a running pipeline count, as Prometheus reads it."""
