"""Names the steps of the archive's protocol, so that a test can end the process at each of them.

Called by the modules that rename, unlink and commit; does nothing outside of tests.
"""

from collections.abc import Callable

hook: Callable[[str], None] | None = None
"""Called with the name of each step, just before it. Set by tests only."""


def reached(step: str) -> None:
    """The named step comes next."""
    if hook is not None:
        hook(step)
