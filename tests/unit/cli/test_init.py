"""`litejoin init`: prints or writes a template, never over a file."""

from pathlib import Path

import pytest

from litejoin.cli.init import TEMPLATES, template_text
from litejoin.cli.main import main


@pytest.mark.parametrize("name", TEMPLATES)
def test_prints_the_template_with_the_editor_line(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", name]) == 0
    out = capsys.readouterr().out
    assert out == template_text(name)
    assert out.startswith("# yaml-language-server: $schema=")
    assert f"\nname: {name}\n" in out


def test_writes_a_file_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shop.yaml"
    assert main(["init", "-o", str(path)]) == 0
    assert path.read_text() == template_text("push-join")
    path.write_text("mine")
    assert main(["init", "-o", str(path)]) == 2
    assert path.read_text() == "mine"
    assert "exists already" in capsys.readouterr().err


def test_an_unwritable_place_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "-o", str(tmp_path / "no" / "shop.yaml")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_template_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "nothing"]) == 2
    err = capsys.readouterr().err
    assert "push-join" in err
    assert err.count("\n") == 1
