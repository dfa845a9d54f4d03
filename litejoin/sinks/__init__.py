"""Where results go: webhooks, SSE, SQLite, stdout. Knows records and errors, never the store."""
