"""Black-box harness: runs `litejoin run` as its user does, judges it from outside (README.md)."""
