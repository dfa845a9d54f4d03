"""Keeps join results up to date from change sets and appends what changed to the results log."""
