"""What is shipped works without this checkout: the sdist builds, the wheel installs and runs.

The wheel is built from the sdist, so a file that MANIFEST.in forgets fails here.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.timeout(600)
"""The native modules are compiled anew, which takes half a minute on an idle machine."""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command outside the checkout; a failure shows what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=clean | env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    tree = tmp_path_factory.mktemp("tree") / "litejoin"
    # A copy without what was built here: an old file list would hide what MANIFEST.in forgets.
    built = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "__pycache__")
    shutil.copytree(ROOT, tree, ignore=built)
    out = tmp_path_factory.mktemp("dist")
    # Without optimisation: what is tested is the contents, and gcc needs a third of the time.
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", out, tree)
    run(*build, cwd=out, LITEJOIN_DEBUG="1")
    return out


@pytest.fixture(scope="module")
def wheel_names(dist: Path) -> set[str]:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def native_names() -> set[str]:
    return {path.stem for path in (ROOT / "_ext").glob("*.pyx")}


@pytest.mark.slow
def test_the_sdist_holds_every_native_source(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    sources = {f"_ext/{p.name}" for p in (ROOT / "_ext").iterdir() if p.suffix in SOURCE_SUFFIXES}
    assert sources <= names
    assert not [name for name in names if name.endswith((".so", ".c", ".pyc"))]


SOURCE_SUFFIXES = {".pyx", ".pxd", ".h"}


@pytest.mark.slow
def test_the_wheel_holds_modules_stubs_and_schema_but_no_native_source(
    wheel_names: set[str],
) -> None:
    modules = {name.split("/")[-1].split(".")[0] for name in wheel_names if name.endswith(".so")}
    assert modules == native_names()
    assert {f"litejoin/_ext/{name}.pyi" for name in native_names()} <= wheel_names
    schemas = {f"litejoin/schemas/{path.name}" for path in (ROOT / "schemas").glob("*.json")}
    assert schemas | {"litejoin/py.typed"} <= wheel_names
    assert not [name for name in wheel_names if name.endswith((".c", ".pyx", ".pxd", ".h"))]
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"litejoin"}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel_names: set[str]) -> None:
    """A new folder, or a new kind of file, must be listed in pyproject.toml."""
    files = [path for path in (ROOT / "litejoin").rglob("*") if path.is_file()]
    wanted = {
        str(path.relative_to(ROOT))
        for path in files
        if "__pycache__" not in path.parts and path.suffix != ".so"
    }
    assert wanted <= wheel_names


@pytest.mark.slow
def test_an_installed_wheel_runs(dist: Path, tmp_path: Path) -> None:
    """Into an empty environment; the dependencies are lent by this one, so no index is asked."""
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    lent = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "lent.pth").write_text(f"import sys; sys.path.append({lent!r})\n")
    where = run(python, "-c", "import litejoin; print(litejoin.__file__)", cwd=tmp_path)
    assert where.startswith(str(site))
    assert "litejoin 0." in run(python, "-m", "litejoin", "version", cwd=tmp_path)
    assert "validate" in run(tmp_path / "venv" / "bin" / "litejoin", "--help", cwd=tmp_path)


def test_the_lock_file_pins_everything_pyproject_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pins = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][^ ]*", pin) for pin in pins)
    pinned = {normal(pin) for pin in pins}
    assert {normal(name) for name in asked} <= pinned


LOCK = ROOT / "requirements" / "dev.txt"


def normal(requirement: str) -> str:
    """`prometheus_client==0.26` -> `prometheus-client`."""
    return re.split(r"[<>=\[; ]", requirement)[0].lower().replace("_", "-")
