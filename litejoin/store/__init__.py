"""The data directory: lock, manifest, shards, state database. Knows topics and rows, not joins."""
