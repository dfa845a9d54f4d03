"""Understands queries: what they read, how their rows hang together, and how to ask for a part."""
