"""Config text -> nodes with positions -> checked document. Reads files, starts nothing."""

from litejoin.config.check import load_config
from litejoin.config.diagnostics import Diagnostic, Diagnostics
from litejoin.config.document import Document

__all__ = ["Diagnostic", "Diagnostics", "Document", "load_config"]
