"""Polled REST APIs: `source.ApiSource` runs one, `probe.probe` tries one without storing."""

from litejoin.sources.api.source import ApiSource as ApiSource
