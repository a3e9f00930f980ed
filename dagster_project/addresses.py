"""What a program of Dagster says of an address in ``dagster.yaml`` that leads nowhere."""

import click
import dagster as dg

from registry_pipelines.errors import InputError

ESCAPED = "in a password @ is %40, : is %3A, / is %2F and % is %25"


class BadAddress(dg.DagsterError, click.ClickException):
    """An address that cannot be read. Of Click's, so that daemon and webserver say it in a line and end; of Dagster's
    for the code server, as :class:`~dagster_project.postgres.DatabaseAway`. What is said has no piece of the address:
    nobody knows where in it the password ends."""

    exit_code = InputError.exit_code
