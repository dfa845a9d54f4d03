"""Checked document -> frozen Plan. No file or network I/O; `nodes` is the vocabulary all stages share."""
