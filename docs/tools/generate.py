"""Writes the generated reference pages; with `--check`, only says which are out of date (exit 1).

    python -m docs.tools.generate [--check]

Run by `make docs` and `make docs-check`. Each page is one module here with `FILE` and `page()`.
"""

import sys
from pathlib import Path

from docs.tools import commands_page, config_page, errors_page

REFERENCE = Path(__file__).resolve().parent.parent / "reference"
PAGES = (commands_page, config_page, errors_page)


def main(arguments: list[str]) -> int:
    """Return the exit code; prints one line for each page that was written or is stale."""
    check = "--check" in arguments
    stale = 0
    for module in PAGES:
        path = REFERENCE / module.FILE
        text = module.page()
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if check:
            print(f"docs/reference/{module.FILE} is out of date: run `make docs` and commit it")
        else:
            path.write_text(text)
            print(f"wrote docs/reference/{module.FILE}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
