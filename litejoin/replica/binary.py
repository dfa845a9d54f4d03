"""Finds the litestream program: beside this Python (extra `replication`), else on the PATH."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from litejoin.errors import ConfigError

MINIMUM_VERSION = (0, 5, 17)
"""The first whose behaviour is tested here. 0.3 has another layout of replicas."""

INSTALL = 'pip install "litejoin[replication]"'


def environment() -> dict[str, str]:
    """The environment of a Litestream that this process starts.

    Its S3 client refuses AWS_CA_BUNDLE ("unable to add custom RootCAs"); Go's own variable does.
    """
    env = dict(os.environ)
    bundle = env.pop("AWS_CA_BUNDLE", "")
    if bundle:
        env.setdefault("SSL_CERT_FILE", bundle)
    return env


def find_litestream() -> Path | None:
    """The program; None when it is not installed."""
    beside = Path(sys.executable).parent / "litestream"
    if beside.exists():
        return beside
    found = shutil.which("litestream")
    return Path(found) if found else None


def require_litestream() -> Path:
    """The program. Raises ConfigError when it is missing or too old. Blocks for milliseconds."""
    path = find_litestream()
    if path is None:
        raise ConfigError("replication needs the program litestream", hint=INSTALL)
    try:
        done = subprocess.run([path, "version"], capture_output=True, timeout=10, check=False)
        text = done.stdout.decode("utf-8", "replace").strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{path} does not run: {error}", hint=INSTALL) from error
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    if numbers is None or tuple(map(int, numbers.groups())) < MINIMUM_VERSION:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        raise ConfigError(f"{path} is version {text!r}, not {wanted} or later", hint=INSTALL)
    return path
