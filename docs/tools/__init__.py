"""Generators of the reference pages whose source of truth is code or the schema."""
