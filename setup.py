"""Builds the native modules: every `_ext/NAME.pyx` becomes `litejoin._ext.NAME`.

One-switch builds (environment variables):
  LITEJOIN_DEBUG=1   -O0 -g, assertions on
  LITEJOIN_ASAN=1    address + undefined-behaviour sanitizers (preload libasan, PYTHONMALLOC=malloc)
  LITEJOIN_TRACE=1   Cython line tracing, for coverage of the .pyx files
  LITEJOIN_EXT=a,b   build only these modules (a shortcut while working on one; "none" builds none)
"""

import os
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


def switch(name: str) -> bool:
    """True when the environment variable is set to anything but 0."""
    return os.environ.get(name, "") not in ("", "0")


def require_sqlite_headers() -> None:
    """Refuse early, naming the package: the compiler's own message does not."""
    folders = ["/usr/include", "/usr/local/include", sysconfig.get_paths()["include"]]
    folders += [folder for folder in os.environ.get("CPATH", "").split(":") if folder]
    if not any((Path(folder) / "sqlite3ext.h").exists() for folder in folders):
        raise SystemExit(
            "litejoin: sqlite3ext.h not found. It comes with SQLite's development files:\n"
            "  Debian/Ubuntu: sudo apt-get install libsqlite3-dev\n"
            "  Fedora:        sudo dnf install sqlite-devel\n"
            "Set CPATH to its folder if it is installed elsewhere."
        )


def compiler_flags() -> tuple[list[str], list[str]]:
    """Arguments for the compiler and for the linker."""
    compile_args = ["-std=gnu11", "-Wall", "-Wsign-compare"]
    # Only a module's init function is exported (the bridge's entry point asks for itself).
    compile_args += ["-fvisibility=hidden", "-fno-strict-aliasing"]
    link_args: list[str] = []
    if switch("LITEJOIN_ASAN"):
        sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-O1", "-g"]
        return compile_args + sanitize, sanitize[:1]
    if switch("LITEJOIN_DEBUG"):
        return [*compile_args, "-O0", "-g", "-UNDEBUG"], link_args
    return [*compile_args, "-O2"], link_args


def extensions() -> list[Extension]:
    """One extension per `_ext/*.pyx`; a changed header rebuilds all of them."""
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


class BuildNative(build_ext):
    """Turns the .pyx files into C when modules are really built: metadata and sdist skip it."""

    def build_extensions(self) -> None:
        """Check the headers, translate one by one, compile in parallel."""
        require_sqlite_headers()
        translated = cythonize(
            self.extensions,
            include_path=["_ext"],
            # Traced, the C code stands beside the .pyx: the only place where coverage finds it.
            build_dir=None if switch("LITEJOIN_TRACE") else "build/cython",
            compiler_directives={
                "language_level": 3,
                "embedsignature": False,
                "linetrace": switch("LITEJOIN_TRACE"),
                "legacy_implicit_noexcept": False,
            },
        )
        for extension, c_extension in zip(self.extensions, translated, strict=True):
            extension.sources = c_extension.sources
        super().build_extensions()


setup(
    # The schemas stand at the top level and are installed as a package.
    packages=[*find_packages(include=["litejoin", "litejoin.*"]), "litejoin.schemas"],
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildNative},
    # Compile as many modules at a time as there are processors, also under pip.
    options={"build_ext": {"parallel": os.cpu_count() or 1}},
)
