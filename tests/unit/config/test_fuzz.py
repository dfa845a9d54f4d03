"""Broken configs of every kind: positioned findings or success, never an exception, never slow.

All the way: SQL is compiled and the findings are printed, as `validate` does.

LITEJOIN_FUZZ_COUNT sets how many mutations are tried (default 300), LITEJOIN_FUZZ_SEED the seed; a
failure prints the seed of its own mutation.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from litejoin.cli.findings import full
from litejoin.config import Document, load_config
from litejoin.config.diagnostics import Diagnostics
from litejoin.config.fits import fits
from litejoin.config.interpolate import Environment, interpolate
from litejoin.config.load import load_bytes
from litejoin.config.nodes import Mapping, Source
from litejoin.config.schema import root_schema
from litejoin.config.shape import shape
from litejoin.config.validate import validate
from litejoin.plan.compile import compile_plan

CONFIGS = Path(__file__).resolve().parents[3] / "tests/configs"
SEEDS = [path.read_bytes() for path in sorted(CONFIGS.glob("*/*.yaml"))]
COUNT = int(os.environ.get("LITEJOIN_FUZZ_COUNT", "300"))
FIRST_SEED = int(os.environ.get("LITEJOIN_FUZZ_SEED", "1"))
ENVIRONMENT = {"OWM_KEY": "0123456789abcdef", "API_TOKEN": "fedcba9876543210"}

MAX_SECONDS = 2.0
"""Of processor time, so that a busy machine does not fail the test."""

TOKENS = [
    b"- ", b": ", b"{", b"}", b"[", b"]", b"&a ", b"*a", b"!!x ", b"|\n", b">-\n", b"'", b'"', b"#",
    b"\t", b"\r", b"\0", b"\xef\xbb\xbf", b"\xff", b"---\n", b"...\n", b"<<: ", b"? ", b"~",
    b"no", b"1e999", b"0x1f", b"-1", b"${", b"${OWM_KEY}", b"${file:/dev/null}", b"$${", b"}", b"%",
    b"\xe2\x80\xae", b"\xf0\x9d\x84\x9e", b"\x1b[31m", b"9" * 500, b".inf", b"@", b"`", b"\n",
    b"  ", b"null",
]  # fmt: skip


def mutated(random_: random.Random) -> bytes:
    """A config with one to four changes: of bytes, of tokens or of its lines."""
    data = bytearray(random_.choice(SEEDS))
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(7)
        if kind == 0:
            data[at : at + 1] = bytes([random_.randrange(256)])
        elif kind == 1:
            data[at:at] = random_.choice(TOKENS)
        elif kind == 2:
            del data[at : at + random_.randint(1, 20)]
        elif kind == 3:
            other = random_.choice(SEEDS)
            start = random_.randrange(len(other))
            data[at:at] = other[start : start + random_.randint(1, 80)]
        else:
            lines = bytes(data).splitlines(keepends=True) or [b""]
            chosen = random_.randrange(len(lines))
            if kind == 4:
                lines.insert(random_.randrange(len(lines) + 1), lines[chosen])
            elif kind == 5:
                lines[chosen] = b" " * random_.randint(1, 6) + lines[chosen]
            else:
                lines[chosen] = lines[chosen].lstrip()
            data = bytearray(b"".join(lines))
    return bytes(data)


def check(data: bytes, what: str) -> Document | None:
    started = time.process_time()
    try:
        document, findings = load_config(data, env=ENVIRONMENT)
        if document is not None:
            findings = document.visible([*findings, *compile_plan(document)[1]])
        shown = full(findings, {"<stdin>": data.decode("utf-8", "replace")})
    except Exception as error:
        raise AssertionError(f"{what}: {error!r} for {data[:4000]!r}") from error
    assert time.process_time() - started < MAX_SECONDS, what
    assert shown.replace("\n", "").isprintable(), what
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = len(Source("f", text).text.splitlines()) + 2
    for finding in findings:
        assert 1 <= finding.line <= lines, (what, finding)
        assert finding.column >= 1, (what, finding)
        assert finding.message.isprintable(), (what, finding)
    identities = [(f.line, f.column, f.code, f.message) for f in findings]
    assert len(identities) == len(set(identities)), what
    assert [f.line for f in findings] == sorted(f.line for f in findings), what
    return document


def test_mutated_configs_give_positioned_findings() -> None:
    complete = 0
    for seed in range(FIRST_SEED, FIRST_SEED + COUNT):
        document = check(mutated(random.Random(seed)), f"LITEJOIN_FUZZ_SEED={seed}")
        complete += document is not None and document.complete
    assert 0 < complete < COUNT, "the mutations must neither break all configs nor none"


def test_fits_says_what_jsonschema_says() -> None:
    """`fits` decides whether jsonschema is asked: it must never accept more or less."""
    outcomes = set()
    for seed in range(FIRST_SEED, FIRST_SEED + COUNT):
        found = Diagnostics()
        root = load_bytes("f", mutated(random.Random(-seed)), found)
        if not isinstance(root, Mapping):
            continue
        interpolate(root, Environment(ENVIRONMENT), found)
        shaped = shape(root, root_schema(), found)
        is_valid = validate(root, shaped, Diagnostics()) == []
        assert fits(shaped.value, shaped.schema) == is_valid, f"LITEJOIN_FUZZ_SEED={seed}"
        outcomes.add(is_valid)
    assert outcomes == {True, False}


MANY = 40_000


QUERY = """\
sources:
  - {name: push, type: http, topics: [a], config: {addr: '127.0.0.1:1'}}
sinks:
  - {name: out, type: stdout}
joins:
  - {name: j, sink: out, query: "%s"}
"""

HOSTILE = dict([
    ("nested lists", "[" * 500_000),
    ("nested mappings", "{a: " * 250_000),
    ("nested blocks", "".join(f"{' ' * n}a:\n" for n in range(1_000))),
    ("nested sequences", "- " * 500_000),
    ("explicit keys", "? " * 500_000),
    ("many unknown keys", "".join(f"key{n}: 1\n" for n in range(MANY))),
    ("many duplicates", "name: a\n" * MANY),
    ("many bad items", "sources:\n" + "- x\n" * MANY),
    ("many bad sources", "sources:\n" + "- {type: htp, nam: x}\n" * 15_000),
    ("many topics", "sources: [{topics: [" + "a," * MANY + "]}]"),
    ("many unset variables", "name: '" + "${NOBODY_X}" * 90_000 + "'"),
    ("many open variables", "name: '" + "${" * 500_000 + "'"),
    ("many variables", "name: '" + "${OWM_KEY}" * 100_000 + "'"),
    ("one long line", "name: " + "a" * 1_000_000),
    ("one long key", "a" * 1_000_000 + ": 1"),
    ("long quoted text", 'name: "' + "\\u00e9" * 170_000 + '"'),
    ("only anchors", "&a " * 300_000),
    ("only line breaks", "\n" * 1_000_000),
    ("only comments", "#" * 1_000_000),
    ("only dashes", "-" * 1_000_000),
    ("many documents", "---\n" * 250_000),
    ("many ignores", "# litejoin: ignore[LJ999]\n" * 38_000),
    ("aliases", "a: &a [x]\n" + "b: [" + "*a," * 1_000 + "]"),
    ("doubling", "a0: &a0 [x,x]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1},*a{n - 1}]\n" for n in range(1, 40))),
    ("merges", "a0: &a0 {b: 1}\n" + "".join(
        f"a{n}: &a{n} {{<<: [*a{n - 1},*a{n - 1}]}}\n" for n in range(1, 40))),
    ("doubling names", "server: {addr: ':1'}\nsinks:\n" + "".join(
        f"- {{name: s{n % 99}, type: sse, config: {{addr: ':{n % 60_000 + 1}'}}}}\n"
        for n in range(10_000))),
    ("many braces", "name: '" + "#(" * 400_000 + "'"),
    ("gjson", "sources: [{api: {key_path: '" + "(" * 900_000 + "'}}]"),
    ("query of parentheses", QUERY % ("SELECT " + "(" * 30_000 + "key" + ")" * 30_000 + " FROM a")),
    ("query of conditions", QUERY % ("SELECT key FROM a WHERE " + " AND ".join(["key=1"] * 5_000))),
    ("query of columns", QUERY % ("SELECT " + ",".join(["key"] * 10_000) + " FROM a")),
    ("query of 60 topics", QUERY % ("SELECT a.key FROM a" + "".join(
        f" JOIN t{n} ON t{n}.key = a.key" for n in range(60)))),
    ("query of 70 topics", QUERY % ("SELECT a.key FROM a" + "".join(
        f", t{n}" for n in range(70)))),
    ("query of subqueries", QUERY % (
        "SELECT key FROM " + "(SELECT key FROM " * 2_000 + "a" + ")" * 2_000)),
    ("query of unions", QUERY % " UNION ".join(["SELECT key FROM a"] * 1_500)),
    ("query of doubling views", QUERY % ("WITH c0 AS (SELECT * FROM a), " + ",".join(
        f"c{n} AS (SELECT * FROM c{n - 1} x, c{n - 1} y)" for n in range(1, 20))
        + " SELECT 1 FROM c19")),
    ("query of comments", QUERY % ("SELECT " + "/*" * 30_000)),
    ("query of quotes", QUERY % ("SELECT " + "''" * 30_000 + "'")),
    ("byte order marks", "\ufeff" * 300_000),
    ("zero bytes", "\0" * 1_000_000),
    ("tabs", "\t" * 1_000_000),
    ("carriage returns", "a: 1\r" * 100_000),
])  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_are_refused_in_time(name: str) -> None:
    check(hostile(name), name)


def hostile(name: str) -> bytes:
    return HOSTILE[name].encode()[: (1 << 20) - 1]


MAX_MEBIBYTES = 200

CHILD = """
import sys
from pathlib import Path
from litejoin.cli.main import main
code = main(["validate", "-", "--format", "full"])
peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
sys.stderr.write(f"{code} {int(peak) // 1024}")
"""


@pytest.mark.parametrize(
    "name", ["many unset variables", "many topics", "doubling names", "query of 60 topics"]
)
def test_hostile_texts_stay_small_in_memory(name: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD], input=hostile(name), capture_output=True, check=True
    )
    code, mebibytes = map(int, child.stderr.split())
    assert code in (0, 1)
    assert mebibytes < MAX_MEBIBYTES
