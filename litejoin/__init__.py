"""LiteJoin: REST APIs, HTTP pushes and Kafka topics as live SQL joins over sharded SQLite.

The main path: `litejoin.cli.main` -> `litejoin.runtime.app` -> a source in `litejoin.sources`.
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
