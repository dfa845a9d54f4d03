"""The writer's benchmark runs, checks what it wrote, and reports the ratios that are promised."""

import json
from pathlib import Path

import pytest

from bench.micro import writer


def test_the_bench_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "writer.json"
    writer.main(["--rows", "2000", "--rounds", "1", "--folder", str(tmp_path), "--out", str(out)])
    document = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == document
    assert document["commit"]
    assert document["sequential"]["plain_vs_c"] > 0
    assert document["threads"]["random"]["two_vs_one"] > 0
    assert document["random_keys_8_shards"]["backlog_vs_fixed"] > 0
