"""The archive: rows that their topic no longer keeps, as Parquet files that queries still read.

paths     where its files are
steps     names of the steps between which a process may die, for tests
manifest  which files there are, and what is in them
arrow     rows in memory as a stream that DuckDB reads
duck      the one place that imports DuckDB
files     durable renames and hashes of files
compact   rows out of SQLite into files
upkeep    small files made one, old files dropped
worker    the process that does all this
cloud     the one place that imports obstore
copies    files into an object store, read back
copied_manifest  the manifest's own copy, with which a new disk begins
copier    the process that does that
cache     files that only the object store has, fetched for queries
serving   what both processes have in common
process   the runtime's end of a process

DuckDB lives in a process of its own: its memory is bounded there, a crash of it loses nothing, and
the event loop never waits for it. It never sees a SQLite file.
"""
