"""Builds the native modules: every `_ext/NAME.pyx` becomes `litejoin._ext.NAME`.

One-switch builds (environment variables):
  LITEJOIN_DEBUG=1   -O0 -g, assertions on
  LITEJOIN_ASAN=1    address + undefined-behaviour sanitizers (preload libasan, PYTHONMALLOC=malloc)
  LITEJOIN_TRACE=1   Cython line tracing, for coverage of the .pyx files
  LITEJOIN_EXT=a,b   build only these modules (a shortcut while working on one)
"""

import os
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

ROOT = Path(__file__).resolve().parent


def switch(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


def require_sqlite_headers() -> None:
    """Refuse early, naming the package: the compiler's own message does not."""
    paths = [Path("/usr/include"), Path("/usr/local/include"), Path(sysconfig.get_paths()["include"])]
    paths += [Path(p) for p in os.environ.get("CPATH", "").split(":") if p]
    if not any((p / "sqlite3ext.h").exists() for p in paths):
        raise SystemExit(
            "litejoin: sqlite3ext.h not found. It comes with SQLite's development files:\n"
            "  Debian/Ubuntu: sudo apt-get install libsqlite3-dev\n"
            "  Fedora:        sudo dnf install sqlite-devel\n"
            "Set CPATH to its folder if it is installed elsewhere."
        )


def compiler_flags() -> tuple[list[str], list[str]]:
    compile_args = ["-std=gnu11", "-Wall", "-Wsign-compare", "-fvisibility=hidden", "-fno-strict-aliasing"]
    link_args: list[str] = []
    if switch("LITEJOIN_ASAN"):
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g"]
        return compile_args + sanitize, sanitize[:1]
    if switch("LITEJOIN_DEBUG"):
        return [*compile_args, "-O0", "-g", "-UNDEBUG"], link_args
    return [*compile_args, "-O2"], link_args


def extensions() -> list[Extension]:
    compile_args, link_args = compiler_flags()
    macros = [("CYTHON_TRACE_NOGIL", "1")] if switch("LITEJOIN_TRACE") else []
    only = {n for n in os.environ.get("LITEJOIN_EXT", "").split(",") if n}
    headers = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "_ext").glob("*.h"))
    return [
        Extension(
            f"litejoin._ext.{path.stem}",
            [f"_ext/{path.name}"],
            include_dirs=["_ext"],
            depends=headers,
            define_macros=macros,
            extra_compile_args=compile_args,
            extra_link_args=link_args,
        )
        for path in sorted((ROOT / "_ext").glob("*.pyx"))
        if not only or path.stem in only
    ]


require_sqlite_headers()
setup(
    ext_modules=cythonize(
        extensions(),
        include_path=["_ext"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "embedsignature": False,
            "linetrace": switch("LITEJOIN_TRACE"),
            "legacy_implicit_noexcept": False,
        },
    )
)
