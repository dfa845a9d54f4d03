"""Benchmarks: micro/ one part, e2e/ the whole pipeline, yardsticks/ what they are compared with."""
