"""Whether the libraries of tables are there: extra `inventory`."""

from __future__ import annotations

from importlib.util import find_spec

from registry_pipelines.errors import ToolMissing


def need_tables() -> None:
    """Raises ToolMissing without pandas or pyarrow; loads neither."""
    missing = [name for name in ("pandas", "pyarrow") if find_spec(name) is None]
    if missing:
        raise ToolMissing(
            f"{' and '.join(missing)} not installed; inventories are their tables",
            do="Install them: pip install 'registry-pipelines[inventory]'",
        )
