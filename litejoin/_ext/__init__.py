"""Native modules, built from `_ext/*.pyx`. Import them by name: `from litejoin._ext import route`."""
