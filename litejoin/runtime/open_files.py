"""How many files and sockets the process may have open.

Called by `server`. Systems start programs with a limit of 1,024, for the sake of old ones that use
select(), and let them raise it: a thousand idle clients would use those up, and the store could
open no file any more.
"""

import resource


def allow_files(wanted: int) -> int:
    """Let the process have so many open, as far as the system lets it; how many it may have now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
