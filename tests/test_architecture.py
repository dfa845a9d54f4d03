"""The layering of litejoin/, read from its imports: data flows one way, and so do dependencies.

`MAY_IMPORT` is the table of docs/explanation/architecture.md. `plan.nodes` stands in the lowest row
although its folder stands higher: it holds nothing but frozen values, and they are the vocabulary
in which config, engine, sinks and runtime speak of a pipeline. `store.sqlite` is a row of its own:
it is the one door to SQLite, also for those who only prepare a statement or keep a database of
their own, and knows nothing of shards.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "litejoin"

VALUES = {
    "errors", "frozen", "records", "clock", "plan.nodes", "plan.nodes_api", "plan.nodes_native",
    "signatures", "version", "schemas", "plain_files", "own_files",
}  # fmt: skip
NATIVE = VALUES | {"_ext"}
SQLITE = NATIVE | {"store.sqlite"}
MAY_IMPORT: dict[str, set[str]] = {
    "version": set(),
    "schemas": set(),
    "errors": set(),
    "frozen": set(),
    "records": {"errors"},
    "signatures": set(),
    "plain_files": set(),
    "own_files": set(),
    "clock": {"errors"},
    "plan.nodes_api": {"frozen"},
    "plan.nodes_native": {"frozen"},
    "plan.nodes": {"errors", "frozen", "records", "plan.nodes_api", "plan.nodes_native"},
    "_ext": VALUES,
    "store.sqlite": NATIVE,
    "store": SQLITE,
    "engine": SQLITE | {"store"},
    "archive": SQLITE | {"store"},
    "replica": SQLITE | {"store", "engine"},
    "kafka": VALUES,
    "sources": NATIVE | {"kafka"},
    "sinks.base": NATIVE,
    "sinks": SQLITE | {"sinks.base", "kafka"},
    "config": NATIVE,
    "plan": SQLITE | {"config"},
    "delivery": SQLITE | {"store", "sinks.base"},
}
STAGES = SQLITE | {
    "store",
    "engine",
    "archive",
    "replica",
    "sources",
    "sinks.base",
    "sinks",
    "config",
    "plan",
    "delivery",
}
MAY_IMPORT["runtime"] = STAGES
MAY_IMPORT["cli"] = STAGES | {"runtime", "kafka"}

MAX_LINES = 500
"""Longer files say in their first 30 lines why they are one room."""
REASON = re.compile(r"\bone (file|module|room) because\b", re.IGNORECASE)


class Import(NamedTuple):
    """One import statement: who, where, what, and whether it runs when the module is loaded."""

    module: str
    line: int
    target: str
    at_load: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in FILES.items()}
NATIVE_MODULES = {f"litejoin._ext.{path.stem}" for path in (ROOT / "_ext").glob("*.pyx")}


def imports_of(module: str) -> Iterator[Import]:
    """Every import of a module; `from a import b` names `a.b` where that is a module."""
    at_load = {id(node) for node in load_time_nodes(TREES[module])}
    for node in ast.walk(TREES[module]):
        loads = id(node) in at_load
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, a.name, loads) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(module, node)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                is_module = full in FILES or full in NATIVE_MODULES
                yield Import(module, node.lineno, full if is_module else base, loads)


def absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = module.split(".") if FILES[module].name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def load_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs at import: not the bodies of functions, not `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from load_time_nodes(child)


def unit(module: str) -> str:
    """The row's name: `litejoin.store.writer` -> `store`."""
    parts = module.split(".")[1:]
    if not parts:
        return "version"
    if parts[0] == "__main__":
        return "cli"
    dotted = ".".join(parts[:2])
    return dotted if dotted in MAY_IMPORT else parts[0]


ALL_IMPORTS = [found for module in FILES for found in imports_of(module)]
OURS = [found for found in ALL_IMPORTS if found.target.split(".")[0] == "litejoin"]


def may_import(importer: str, target: str) -> bool:
    home, wanted = unit(importer), unit(target)
    return wanted == home or wanted in MAY_IMPORT[home]


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_from_lower_rows(module: str) -> None:
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{found.line} imports {found.target}"
        for found in OURS
        if found.module == module and not may_import(module, found.target)
    ]
    assert not wrong


def test_every_folder_has_a_row() -> None:
    assert {unit(module) for module in FILES} <= MAY_IMPORT.keys()


def test_the_table_has_no_cycle() -> None:
    assert list(TopologicalSorter(MAY_IMPORT).static_order())


def test_modules_import_each_other_in_one_direction() -> None:
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for found in OURS:
        # `import litejoin.a.b` also runs the packages above, whose __init__ hold no code.
        if found.at_load and found.target != found.module:
            graph[found.module].add(found.target)
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


def test_packages_hold_no_code() -> None:
    """An `__init__` is a docstring, exports and `__all__`; code there runs for every import."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{node.lineno}"
        for module, tree in TREES.items()
        if FILES[module].name == "__init__.py"
        for node in tree.body
        if not isinstance(node, allowed)
    ]
    assert not wrong


def test_one_sqlite_only() -> None:
    """Two copies of SQLite in a process break each other's POSIX locks."""
    second = {"sqlite3", "_sqlite3", "aiosqlite", "pysqlite3"}
    assert not [f for f in ALL_IMPORTS if f.target.split(".")[0] in second]


def test_the_plan_reads_no_files_and_no_network() -> None:
    blocking = re.compile(r"(socket|http|urllib\.request|urllib3|subprocess|asyncio)\b")
    wrong = [f for f in ALL_IMPORTS if unit(f.module) == "plan" and blocking.match(f.target)]
    calls = [
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        if unit(module).startswith("plan")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and called_name(node) in FILE_CALLS
    ]
    assert not wrong
    assert not calls


FILE_CALLS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink"}


def called_name(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_only_the_clock_reads_the_clock() -> None:
    """Tests move an injected clock; a direct read would make them sleep."""
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{node.lineno} {ast.unparse(node.func)}"
        for module, tree in TREES.items()
        if module != "litejoin.clock"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CLOCK_READS
    ]
    assert not wrong


CLOCK_READS = {
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.sleep",
    "datetime.now", "datetime.utcnow", "datetime.datetime.now", "date.today",
}  # fmt: skip


def test_no_time_limit_loses_a_cancellation() -> None:
    """asyncio.wait_for before Python 3.12 does when it comes with the result; asyncio.timeout does
    not.
    """
    wrong = [
        f"{FILES[module].relative_to(ROOT)}:{node.lineno}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "asyncio.wait_for"
    ]
    assert not wrong


def test_what_is_imported_is_declared() -> None:
    """A wheel installed without the development packages finds every module it imports at load."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {"pyyaml": "yaml"}
    declared = {re.split(r"[<>=\[; ]", text)[0].lower() for text in project["dependencies"]}
    declared = {names.get(name, name.replace("-", "_")) for name in declared}
    extras = {
        re.split(r"[<>=\[; ]", text)[0].lower().replace("-", "_")
        for extra, texts in project["optional-dependencies"].items()
        if extra != "dev"
        for text in texts
    }
    wrong, lazy = [], modules_loaded_on_demand()
    for found in ALL_IMPORTS:
        top = found.target.split(".")[0]
        known = declared if found.at_load and found.module not in lazy else declared | extras
        if top not in sys.stdlib_module_names | {"litejoin"} | known:
            wrong.append(f"{found.module}:{found.line} imports {top}")
    assert not wrong


def modules_loaded_on_demand() -> set[str]:
    """Modules that are imported inside functions only, and by modules of which that is true."""
    imported = {found.target for found in OURS}
    lazy = set(FILES) & imported
    while loaded := {f.target for f in OURS if f.at_load and f.module not in lazy} & lazy:
        lazy -= loaded
    return lazy


def source_files() -> Iterator[Path]:
    for folder in ("litejoin", "_ext", "tests", "bench", "docs", "examples", "tools", "schemas"):
        for suffix in ("py", "pyi", "pyx", "pxd", "h"):
            yield from (ROOT / folder).rglob(f"*.{suffix}")
    yield ROOT / "setup.py"


def test_files_stay_readable() -> None:
    """At most 500 lines, unless the header says why the file is one room."""
    long = []
    for path in source_files():
        lines = path.read_text().splitlines()
        if len(lines) > MAX_LINES and not REASON.search(" ".join(lines[:30])):
            long.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
    assert not long


def test_every_module_says_what_it_is() -> None:
    assert not [module for module, tree in TREES.items() if not ast.get_docstring(tree)]
