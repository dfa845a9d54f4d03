"""Native modules, built from `_ext/*.pyx`; imported by name: `from litejoin._ext import route`."""
