"""Wires everything and runs it: the only place that starts tasks, threads and sockets."""
