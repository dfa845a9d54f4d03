"""Makes the VFS known that writes the frames of a transaction to a write-ahead log together (wal_vfs.h)."""

cimport csqlite3

from litejoin._ext import bridge

cdef extern from "wal_vfs.h":
    int lj_vfs_register(const char *name, const char *base)


def register(str name not None, str base="") -> None:
    """Register the VFS `name` over the VFS `base` ("": SQLite's default). Idempotent, not blocking.

    Raises RuntimeError when `base` is unknown or the bridge has not been loaded.
    """
    if bridge.api_pointer() == 0:
        raise RuntimeError("the bridge has not been loaded into a connection")
    csqlite3.lj_set_api(bridge.api_pointer())
    cdef int rc = lj_vfs_register(name.encode(), base.encode())
    if rc:
        raise RuntimeError(f"VFS {name!r} over {base!r}: SQLite result code {rc}")
