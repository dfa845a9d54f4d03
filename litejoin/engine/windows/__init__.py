"""Windows: queries over the messages of a span of time, from message rows to results."""
