"""One part at a time, beside its yardstick."""
