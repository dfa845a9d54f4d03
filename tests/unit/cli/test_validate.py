"""`litejoin validate`: what it prints in each format, what it reads, and its exit codes."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from litejoin.cli import main as cli
from litejoin.cli.findings import full, use_colors
from litejoin.config.codes import CODES
from litejoin.config.diagnostics import Diagnostic

CONFIGS = Path(__file__).resolve().parents[3] / "tests/configs"

SOUND = """\
name: shop
sources:
  - {name: push, type: http, topics: [orders], config: {addr: "127.0.0.1:8080"}}
joins:
  - {name: j, query: SELECT key FROM orders, sink: out}
sinks:
  - {name: out, type: stdout}
"""
WARNED = SOUND.replace('"127.0.0.1:8080"', '":8080"')
BROKEN = "storage:\n  shard_cuont: 4\n" + SOUND


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("LITEJOIN_")]:
        monkeypatch.delenv(name)
    return tmp_path


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")
    return name


def validate(*argv: str) -> int:
    return cli.main(["validate", *argv])


def test_a_sound_config_is_clean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(write(folder, "shop.yaml", SOUND)) == 0
    assert capsys.readouterr().out == "no findings in 1 file\n"


def test_the_default_format_shows_the_place_and_what_to_do(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate(write(folder, "shop.yaml", BROKEN)) == 1
    keys = (
        "data_dir, shard_count, reader_pool_size, row_cache, batch_size, flush_interval,"
        " synchronous, scrub_interval, scrub_rate, warn_free_space, min_free_space"
    )
    assert capsys.readouterr().out == (
        'shop.yaml:2:3: LJ103 error: unknown key "shard_cuont" in storage'
        ' (did you mean "shard_count"?)\n'
        "  |\n"
        "1 | storage:\n"
        "2 |   shard_cuont: 4\n"
        "  |   ^^^^^^^^^^^\n"
        f"  = help: the keys here are {keys} and archive\n"
        "\n"
        "1 error in 1 file\n"
    )


def test_warnings_fail_only_when_denied(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = write(folder, "shop.yaml", WARNED)
    assert validate(name) == 0
    assert "1 warning in 1 file" in capsys.readouterr().out
    assert validate(name, "--deny-warnings") == 1
    assert validate(write(folder, "sound.yaml", SOUND), "--deny-warnings") == 0


def test_concise_is_one_line_a_finding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(write(folder, "a:b,c.yaml", BROKEN), "--format", "concise") == 1
    assert capsys.readouterr().out == (
        'a:b,c.yaml:2:3: LJ103 error: unknown key "shard_cuont" in storage'
        ' (did you mean "shard_count"?)\n'
    )


def test_json_has_the_documented_fields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(write(folder, "shop.yaml", BROKEN), "--format", "json") == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding == {
        "file": "shop.yaml",
        "line": 2,
        "column": 3,
        "code": "LJ103",
        "level": "error",
        "message": 'unknown key "shard_cuont" in storage (did you mean "shard_count"?)',
        "hint": finding["hint"],
        "pointer": "/storage/shard_cuont",
    }
    assert validate(write(folder, "sound.yaml", SOUND), "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_github_escapes_what_its_commands_reserve(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SOUND.replace("name: shop", 'name: "50%\\n"')
    assert validate(write(folder, "a:b,c.yaml", text), "--format", "github") == 1
    out = capsys.readouterr().out
    assert out.startswith("::error file=a%3Ab%2Cc.yaml,line=1,col=7,endColumn=14,title=LJ112::")
    assert "50%25" in out
    assert out.count("\n") == 1


def test_sarif_is_2_1_0_with_rules_and_regions(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [write(folder, "a b.yaml", BROKEN), write(folder, "warned.yaml", WARNED)]
    assert validate(*names, "--format", "sarif") == 1
    log = json.loads(capsys.readouterr().out)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "litejoin"
    assert [rule["id"] for rule in driver["rules"]] == ["LJ103", "LJ260"]
    first, second = run["results"]
    assert first["ruleId"] == driver["rules"][first["ruleIndex"]]["id"] == "LJ103"
    assert (first["level"], second["level"]) == ("error", "warning")
    place = first["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "a%20b.yaml"
    assert place["region"] == {"startLine": 2, "startColumn": 3, "endColumn": 14}


def test_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(BROKEN.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert validate("-", "--format", "concise") == 1
    assert capsys.readouterr().out.startswith("<stdin>:2:3: LJ103 error:")


def test_directories_are_searched_and_files_counted_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.yaml", "deep/er/b.yml", ".hidden/c.yaml", "notes.txt"):
        write(folder, name, SOUND)
    assert validate() == 0
    assert capsys.readouterr().out == "no findings in 2 files\n"
    assert validate("a.yaml", ".", "a.yaml") == 0
    assert capsys.readouterr().out == "no findings in 2 files\n"


def test_what_cannot_be_read_is_2_and_the_rest_is_still_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = write(folder, "shop.yaml", BROKEN)
    assert validate("missing.yaml", name, "--format", "concise") == 2
    out, err = capsys.readouterr()
    assert "LJ103" in out
    assert err == "litejoin validate: cannot read missing.yaml: No such file or directory\n"
    (folder / "empty").mkdir()
    assert validate("empty") == 2
    assert "no .yaml or .yml file in empty" in capsys.readouterr().err
    assert validate("--format", "xml", name) == 2


def test_variables_come_from_the_environment_and_the_env_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SHARDS", raising=False)
    name = write(folder, "shop.yaml", "storage: {shard_count: '${SHARDS}'}\n" + SOUND)
    assert validate(name) == 1
    assert "LJ130" in capsys.readouterr().out
    assert validate(name, "--no-env-check") == 0
    env_file = write(folder, "env", "SHARDS=4\n")
    assert validate(name, "--env-file", env_file) == 0
    monkeypatch.setenv("SHARDS", "many")
    assert validate(name, "--env-file", env_file) == 1, "the environment wins"
    assert validate(name, "--env-file", "missing") == 2
    assert validate(name, "--set", "storage.shard_count=8") == 0


def test_sql_findings_point_into_the_block(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SOUND.replace(
        "  - {name: j, query: SELECT key FROM orders, sink: out}\n",
        "  - name: j\n    query: |\n      SELECT o.key,\n             o.nmae\n"
        "      FROM orders o\n    sink: out\n",
    )
    assert validate(write(folder, "shop.yaml", text), "--format", "concise") == 1
    assert capsys.readouterr().out.startswith("shop.yaml:8:14: LJ212 error: no such column")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colors_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert use_colors(Terminal())
    assert not use_colors(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not use_colors(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not use_colors(Terminal())


def finding(column: int, length: int = 1) -> Diagnostic:
    return Diagnostic("f", 1, column, "LJ104", "error", "bad", length=length)


def caret_lines(text: str, column: int, length: int) -> tuple[str, str]:
    lines = full([finding(column, length)], {"f": text}).splitlines()
    return lines[2], lines[3]


def test_the_caret_stands_below_what_it_means() -> None:
    for text, word in (("a: bad", "bad"), ("\ta:\tbad", "bad"), ("キー: 値", "値")):
        line, caret = caret_lines(text, text.index(word) + 1, len(word))
        wide = sum(2 if ord(c) > 0x2E80 else 1 for c in line[: line.index(word)])
        assert caret.index("^") == wide
        assert caret.count("^") == sum(2 if ord(c) > 0x2E80 else 1 for c in word)


def test_long_lines_are_cut_around_the_caret_and_nothing_reaches_the_terminal_raw() -> None:
    text = "x" * 5_000 + "BAD" + "y" * 5_000
    line, caret = caret_lines(text, 5_001, 3)
    assert len(line) < 140
    assert line[caret.index("^") : caret.rindex("^") + 1] == "BAD"
    assert "\x1b" not in full([finding(1)], {"f": "a\x1b[31m\u202e"})


def test_excerpts_do_not_publish_the_secret_they_are_about(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SOUND + "server: {auth: {tokens: [hunter22hunter22]}, extra: 1}\n"
    assert validate(write(folder, "shop.yaml", text)) == 1
    out = capsys.readouterr().out
    assert "LJ261" in out and "LJ103" in out
    assert "hunter22" not in out


def test_excerpts_mask_what_is_named_like_a_secret(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = "extra: {passwrd: hunter22, 'api-key': hunter22, token: \"${T}\", token_path: a.b}\n"
    assert validate(write(folder, "shop.yaml", SOUND + extra)) == 1
    out = capsys.readouterr().out
    assert "hunter22" not in out
    assert "{passwrd: ********, 'api-key': ********, token: \"${T}\", token_path: a.b}" in out


def test_names_and_texts_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.yaml")
    path.write_text("é: 1\n", encoding="utf-8")
    for form in ("full", "concise", "json", "github", "sarif"):
        done = subprocess.run(
            [sys.executable, "-m", "litejoin", "validate", path, "--format", form],
            env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (1, b""), form
        assert b"LJ103" in done.stdout
        if form in ("json", "sarif"):
            json.loads(done.stdout)


def test_sarif_of_the_whole_corpus_is_well_formed(capsys: pytest.CaptureFixture[str]) -> None:
    """The rules of the standard's schema that apply to what is written."""
    assert validate(str(CONFIGS / "invalid"), "--format", "sarif") == 1
    log = json.loads(capsys.readouterr().out)
    assert log.keys() == {"$schema", "version", "runs"}
    (run,) = log["runs"]
    assert run.keys() == {"tool", "columnKind", "results"}
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", place["artifactLocation"]["uri"])
        region = place["region"]
        assert region.keys() == {"startLine", "startColumn", "endColumn"}
        assert region["startLine"] >= 1
        assert 1 <= region["startColumn"] < region["endColumn"]


def test_every_rule_reads_as_help() -> None:
    for code, rule in CODES.items():
        assert rule.code == code
        assert rule.title and rule.cause.endswith(".") and rule.example and rule.fix.endswith(".")


def test_the_corpus_validates_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(str(CONFIGS / "invalid"), "--format", "full") == 1
    out = capsys.readouterr().out
    assert f"in {len(list((CONFIGS / 'invalid').glob('*.yaml')))} files" in out
