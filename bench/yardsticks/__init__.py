"""Programs that do the same work by hand."""
