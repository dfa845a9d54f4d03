"""Answers of a real API kept in a directory, and played back without the API.

`redact` takes out what is secret, `fixture` is the directory, `transports` stand where the network
stands in an api source. Used by `litejoin record` and `--replay`.
"""
