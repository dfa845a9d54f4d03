"""The daemon as users run it."""
