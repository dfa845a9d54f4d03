"""The front half of the config compiler, in order: text, tree, overrides, variables, schema, sense.

`validate`, `plan` and `run` all start here. Blocking; reads the config file and the files that
`${file:..}` names, nothing else.
"""

import re
from collections.abc import Mapping as AnyMapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from litejoin.config.defaults import fill, repair
from litejoin.config.diagnostics import Diagnostic, Diagnostics
from litejoin.config.document import Document
from litejoin.config.exposure import check_exposure
from litejoin.config.fits import fits
from litejoin.config.ignores import read_ignores
from litejoin.config.interpolate import Environment, interpolate
from litejoin.config.load import MAX_BYTES, load_bytes
from litejoin.config.nodes import Mapping, Scalar
from litejoin.config.overrides import apply_override
from litejoin.config.schema import root_schema
from litejoin.config.semantic import check_meaning
from litejoin.config.shape import Shape, shape
from litejoin.config.spans import check_rounded
from litejoin.config.uses import fed_topics, result_names
from litejoin.errors import ConfigError
from litejoin.plan.nodes import Secret

STDIN_NAME = "<stdin>"


def load_config(
    config: Path | str | bytes,
    *,
    env: AnyMapping[str, str],
    sets: Sequence[str] = (),
    no_env_check: bool = False,
    file: str = STDIN_NAME,
) -> tuple[Document | None, list[Diagnostic]]:
    """Load and check one config: a path, or a text (or its bytes) that findings call `file`.

    `env` is what `${VAR}` sees, `sets` are `PATH=VALUE` overrides. The document is None when
    the text is no YAML mapping or has a thousand errors; with fewer errors among the findings it
    holds the sound parts only and must not be run. Raises ConfigError when the file cannot be read.
    """
    if isinstance(config, Path):
        file, data = str(config), read_config(config)
    else:
        data = config if isinstance(config, bytes) else config.encode("utf-8", "surrogatepass")
    found = Diagnostics()
    root = load_bytes(file, data, found)
    if root is None:
        return None, found.sorted()
    if not isinstance(root, Mapping):
        message = "a config is a mapping of keys such as sources, joins and sinks"
        found.node(root, "LJ104", message, hint="`litejoin init` prints one to start from")
        return None, found.sorted()
    for override in sets:
        apply_override(root, override, found)
    return _check(file, root, Environment(env, check=not no_env_check), found)


def read_config(path: Path) -> bytes:
    """The bytes of a config file. Raises ConfigError when it cannot be read."""
    try:
        with path.open("rb") as file:
            # One byte more than is allowed tells that there is more; /dev/zero has no end.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None


def _check(
    file: str, root: Mapping, environment: Environment, found: Diagnostics
) -> tuple[Document | None, list[Diagnostic]]:
    interpolate(root, environment, found)
    shaped = shape(root, root_schema(), found)
    bad = shaped.broken
    if not fits(shaped.value, shaped.schema):
        # Only now: importing jsonschema takes longer than all the rest.
        from litejoin.config.validate import validate

        bad = [*bad, *validate(root, shaped, found)]
    if found.is_full:
        return None, found.sorted()  # a file of another kind: nothing in it is worth a look
    value, removed = repair(shaped.value, bad, shaped.schemas)
    secrets = _secrets(shaped, value)
    ignores = read_ignores(root.source, found)
    document = Document(
        name=_name(file, value),
        file=file,
        root=root,
        value=_with_defaults(file, value),
        schema=root_schema(),
        removed=removed,
        secrets=secrets,
        ignores=ignores,
        complete=not found.has_errors,
        fed_topics=fed_topics(root),
        result_names=result_names(root),
    )
    check_meaning(document, root, found)
    check_exposure(document, shaped, found)
    check_rounded(shaped, found)
    features = {feature: pointer for feature, pointer in reversed(document.features_off())}
    for feature, pointer in features.items():
        message = f"not supported yet: {feature}; `litejoin run` refuses this config"
        found.add(document.finding("LJ270", pointer, message))
    findings = document.visible(found.sorted())
    document.complete = not any(finding.level == "error" for finding in findings)
    return document, findings


def _with_defaults(file: str, value: dict[str, Any]) -> dict[str, Any]:
    """The schema's defaults, and those that depend on other values."""
    fill(value, root_schema())
    value.setdefault("name", _name(file, value))
    delivery, storage = value["delivery"], value["storage"]
    guarantees = {delivery["guarantee"], *(s.get("guarantee") for s in value["sinks"])}
    is_durable = "at_least_once" in guarantees
    storage.setdefault("synchronous", "full" if is_durable else "normal")
    if "path" not in delivery["dlq"]:
        path = str(Path(storage["data_dir"]) / "dlq.db")
        is_secret = isinstance(storage["data_dir"], Secret)
        delivery["dlq"]["path"] = Secret(path) if is_secret else path
    return value


def _name(file: str, value: dict[str, Any]) -> str:
    """The pipeline's name: as written, or the file's stem made into a name."""
    if "name" in value:
        return str(value["name"])
    stem = "" if file == STDIN_NAME else Path(file).stem
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).lstrip(".-")[:128]
    return name or "pipeline"


def _secrets(shaped: Shape, value: dict[str, Any]) -> frozenset[str]:
    secrets: set[str] = set()
    for node in shaped.nodes.values():
        if isinstance(node, Scalar):
            secrets.update(node.secrets)
    _collect_secrets(value, secrets)
    return frozenset(secrets - {""})


def _collect_secrets(value: Any, secrets: set[str]) -> None:
    if isinstance(value, Secret):
        secrets.add(str(value))
    elif isinstance(value, dict):
        for each in value.values():
            _collect_secrets(each, secrets)
    elif isinstance(value, list):
        for each in value:
            _collect_secrets(each, secrets)
