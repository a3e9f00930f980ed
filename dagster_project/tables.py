"""Wait until Dagster's tables are as this version wants them: ``python -m dagster_project.tables``.

For what starts beside the process that brings them there (``dagster instance migrate``), and that cannot be told by an
order of starts: the webserver's pods on Kubernetes, whose new version else stands before old tables, and fails each
page that asks for a column that is not there yet. Tables that a newer version has changed already are waited for no
more: after a way back they stay as they are, and Dagster reads them.
"""

import time

import dagster as dg
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from dagster_postgres.run_storage import run_storage
from dagster_postgres.utils import pg_alembic_config

LOOK_S = 2.0


def awaited(instance: dg.DagsterInstance) -> tuple[str, str] | None:
    """Revision of the tables, and the one they are to be brought to; None where there is nothing to wait for, as with
    a storage that is no Postgres. Raises DatabaseAway."""
    storage = instance.run_storage
    if not isinstance(storage, run_storage.PostgresRunStorage):
        return None
    there, wanted = storage.alembic_version()
    known = ScriptDirectory.from_config(pg_alembic_config(run_storage.__file__))
    try:
        known.get_revision(there or "base")
    except CommandError:  # of a newer version
        return None
    return None if there == wanted else (there or "none", str(wanted))


def main() -> None:
    """Ends when there is nothing to wait for."""
    with dg.DagsterInstance.get() as instance:
        told = None
        while (found := awaited(instance)) is not None:
            if found != told:
                there, wanted = told = found
                now = f"Dagster's tables are of revision {there}, and {wanted} is wanted"
                print(f"{now}: waiting for `dagster instance migrate`", flush=True)
            time.sleep(LOOK_S)


if __name__ == "__main__":
    main()
