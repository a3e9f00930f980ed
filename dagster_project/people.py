"""Who asks for a run: the name that a person types at launch, or the one that a reverse proxy sends with the request.

Dagster's webserver knows no users. A reverse proxy that does puts the name into a header of each request; Dagster hands
the request to the run coordinator, and :class:`NamedByProxy` notes the name on the run. In ``dagster.yaml``::

    run_coordinator:
      module: dagster_project.people
      class: NamedByProxy
      config: {user_header: X-Forwarded-User}

The header is believed, so nobody may reach the webserver but through that proxy, and it must remove the header from
what browsers send (docs/dagster.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator, SubmitRunContext
from dagster._serdes import ConfigurableClassData
from pydantic import Field

from registry_pipelines.errors import InputError
from registry_pipelines.promote.person import Person

PERSON_TAG = "registry-pipelines/person"
"""Run tag with the user that the proxy named. Anybody can type one at launch; :class:`NamedByProxy` clears that."""
PROMOTE_JOB = "promote"
"""The job with which a person lets a release go."""
PROMOTION = "promotion"
"""Name of the asset, and of its step in a run's config."""


class Ask(dg.Config):
    """What a person may write at launch."""

    promoted_by: str = Field(
        default="",
        description="Your name, for the signed record, where you let a release go. Leave it empty behind a proxy that "
        "names you.",
    )
    channel: str = Field(
        default="",
        description="The channel that you let it go to, of an image with several; the step says which is the next.",
    )


def config_to_ask(name: str = "") -> dict[str, Any]:
    """The run config with the field to fill in."""
    return {"ops": {PROMOTION: {"config": {"promoted_by": name}}}}


class NamedByProxy(QueuedRunCoordinator[dg.DagsterInstance]):
    """Dagster's own queue, which also notes the user of a launch that came through the webserver. Has all of its
    settings; ``concurrency`` of ``dagster.yaml`` holds as before."""

    def __init__(self, user_header: str, inst_data: ConfigurableClassData | None = None, **settings: Any) -> None:
        self.user_header = user_header
        super().__init__(inst_data=inst_data, **settings)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """The queue's settings and ``user_header``."""
        header = dg.Field(str, description="Header in which the reverse proxy names the user of a request.")
        return {**cast(dict[str, Any], super().config_type()), "user_header": header}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> "NamedByProxy":
        """Made by Dagster from ``dagster.yaml``."""
        return cls(inst_data=inst_data, **config_value)

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        """Queue a run. What was typed as the tag, or came along from a run that is done once more, is replaced: also by
        nothing, where the request has no name, or there is none, as for what the daemon launches."""
        headers = getattr(getattr(context.workspace, "source", None), "headers", None)
        name = name_in(headers.getlist(self.user_header)) if headers else ""
        run = context.dagster_run
        if name or PERSON_TAG in run.tags:
            self._instance.add_run_tags(run.run_id, {PERSON_TAG: name})
        return super().submit_run(context)


def name_in(values: Sequence[str]) -> str:
    """The user in a header's values, as the webserver read them; empty for none, for what is no name of a person, and
    for several: then one is not the proxy's."""
    try:
        return Person.named(_text(values[0]), "proxy").name if len(values) == 1 else ""
    except InputError:
        return ""


def _text(value: str) -> str:
    """The webserver reads a header's bytes as Latin-1 (RFC 9110, 5.5), and proxies write UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def who_asks(context: dg.AssetExecutionContext, ask: Ask) -> Person | None:
    """The person who asks this run to promote; None where nobody does. Somebody does by the job ``promote``, and by
    typing a name. Raises InputError where it cannot be said who that is."""
    typed = ask.promoted_by.strip()
    if not typed and context.job_name != PROMOTE_JOB:
        return None
    return named(context, typed, field="promoted_by", what="lets the release go", command="promote")


def named(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, typed: str, *, field: str, what: str, command: str
) -> Person:
    """The person behind a launch: the proxy's word where there is one, else what was typed. field: where. what,
    command: what the person does, and how it is done without Dagster. Raises InputError where nobody can be named."""
    coordinator = context.instance.run_coordinator
    if not isinstance(coordinator, NamedByProxy):
        if not typed:
            raise InputError(
                f"nobody is named who {what}", do=f"Open the launchpad, and write your name as `{field}` of the step"
            )
        return Person.named(typed, "claimed")
    name = context.run.tags.get(PERSON_TAG)
    if not name:
        raise InputError(
            f"the proxy sent no name with this launch ({coordinator.user_header})",
            do=f"Launch one release at a time, through the proxy; or run `registry-pipelines {command}`",
        )
    if typed and typed != name:
        raise InputError(f"`{field}` says {typed!r}, the proxy {name!r}", do=f"Leave `{field}` empty")
    return Person.named(name, "proxy")
