"""Writes the generated pages; with `--check`, only says which are out of date (exit 1).

    python -m docs.tools.generate [--check]

Run by `make docs` and `make docs-check`. Each page is one module here with `FILE`,
`page()` and, unless the page is one of docs/reference, `FOLDER`.
"""

import sys
from pathlib import Path

from docs.tools import commands_page, config_page, errors_page, metrics_page, recipes_page

DOCS = Path(__file__).resolve().parent.parent
PAGES = (commands_page, config_page, errors_page, metrics_page, recipes_page)


def main(arguments: list[str]) -> int:
    """Return the exit code; prints one line for each page that was written or is stale."""
    check = "--check" in arguments
    stale = 0
    for module in PAGES:
        folder = getattr(module, "FOLDER", "reference")
        path = DOCS / folder / module.FILE
        text = module.page()
        if path.exists() and path.read_text() == text:
            continue
        stale += 1
        if check:
            print(f"docs/{folder}/{module.FILE} is out of date: run `make docs` and commit it")
        else:
            path.write_text(text)
            print(f"wrote docs/{folder}/{module.FILE}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
