"""Where records come from: polled APIs, HTTP pushes. Knows records and errors, never the store."""
