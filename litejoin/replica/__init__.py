"""Replication of the data files with Litestream, and their way back."""
