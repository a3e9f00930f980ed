"""docs/exit-codes.md from the exit codes of the command line and the tree of errors (tests/pages.py writes it)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from registry_pipelines.cli.errors import EXIT_CODES
from registry_pipelines.errors import RegistryPipelinesError

HEAD = """# Exit codes and errors

<!-- Written by `make docs` from registry_pipelines/errors.py and cli/errors.py. -->

A script asks the exit code; `--json` names the error too:

```json
{"command": "copy", "ok": false, "exit_code": 5, "result": null,
 "error": {"error": "Unauthorized", "what": "...", "where": "eu.example.com/team/app", "do": "..."}}
```

`where` never holds a password or a token; `do` is what to try next. In Python the same errors are
in `registry_pipelines.errors`, each a `RegistryPipelinesError`.

| exit code | meaning |
|---|---|
"""


def errors(kind: type[RegistryPipelinesError]) -> Iterator[type[RegistryPipelinesError]]:
    """A class and all below it, in the order of their definition."""
    yield kind
    for each in kind.__subclasses__():
        yield from errors(each)


def page() -> str:
    """The whole page."""
    codes = "".join(f"| {code} | {meaning} |\n" for code, meaning in EXIT_CODES.items())
    rows = []
    for each in errors(RegistryPipelinesError):
        if each.__module__ == RegistryPipelinesError.__module__:
            meaning = " ".join((inspect.getdoc(each) or "").split("\n\n")[0].split())
            rows.append(f"| `{each.__name__}` | {each.exit_code} | {re.sub('`+', '`', meaning)} |\n")
    return f"{HEAD}{codes}\n## Errors\n\n| error | exit code | when |\n|---|---|---|\n{''.join(rows)}"
