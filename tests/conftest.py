"""Fixtures that every suite may use."""

from tests.harness.fixtures import launch, launch_shared, receiver, upstream

__all__ = ["launch", "launch_shared", "receiver", "upstream"]
