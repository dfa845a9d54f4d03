"""Checked document -> frozen Plan, without file or network I/O; all stages share `nodes`."""
