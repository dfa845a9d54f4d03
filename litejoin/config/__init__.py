"""Config text -> nodes with positions -> checked document. Reads files, starts nothing."""

from litejoin.config.check import load_config, read_config
from litejoin.config.diagnostics import Diagnostic, Diagnostics
from litejoin.config.document import Document
from litejoin.config.envfile import read_env_file

__all__ = ["Diagnostic", "Diagnostics", "Document", "load_config", "read_config", "read_env_file"]
