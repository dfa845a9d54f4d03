"""The `litejoin` command."""
