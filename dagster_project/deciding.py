"""What a person decides beside the policy, launched in the UI: a release is revoked, or let go for a time.

Both sign with the person's key, so they work where that key is. To revoke denies, and whoever may launch runs may do
it. **A break-glass lets something pass**, so it is opened only by somebody whom a reverse proxy names: a launchpad in
which anybody may write any name is no signature of anybody.
"""

import dagster as dg
from pydantic import Field

from dagster_project.people import NamedByProxy, named
from dagster_project.report import refusals, succeeded
from dagster_project.resources import ChainParam
from registry_pipelines.errors import InputError
from registry_pipelines.settings import Duration

REVOKE_JOB, BREAK_GLASS_JOB = "revoke", "break_glass"
RELEASE = "The release: image:tag, image@digest, or its key."
REASON = "Why; it is signed."
BY = "Your name, for the signed record. Leave it empty behind a proxy that names you."


class ToRevoke(dg.Config):
    """What a person writes to revoke a release."""

    release: str = Field(description=RELEASE)
    reason: str = Field(description=REASON)
    back_to: str = Field(default="", description="What its channels go back to; the last good release if empty.")
    by: str = Field(default="", description=BY)


class ToBreakGlass(dg.Config):
    """What a person writes to let a release go against its policy."""

    release: str = Field(description=RELEASE)
    reason: str = Field(description=REASON)
    lasts: str = Field(description="How long, at most 7d: 4h, for example.")
    channel: str = Field(default="", description="The channel that it may come to; the last of its image if empty.")
    by: str = Field(default="", description=BY)


@dg.op(
    description="Deny a release that turned out bad: signed, its channels back to the last good release, every target "
    "and mirror that has it told. Launched again it does what is left."
)
def revoked(context: dg.OpExecutionContext, chain: ChainParam, config: ToRevoke) -> None:
    """See ``registry-pipelines revoke``."""
    with refusals(context):
        person = named(context, config.by.strip(), field="by", what="revokes the release", command="revoke")
        earlier = chain.find_release(config.back_to.strip()) if config.back_to.strip() else None
        release = chain.find_release(config.release.strip())
        succeeded(context, chain.revoke(release, person, reason=config.reason, back_to=earlier))


@dg.op(
    description="Sign that exactly this digest may come to a channel although its policy denies it, until the time is "
    "over; then launch `promote`. Only behind a proxy that names who launches."
)
def glass_broken(context: dg.OpExecutionContext, chain: ChainParam, config: ToBreakGlass) -> None:
    """See ``registry-pipelines break-glass open``."""
    with refusals(context):
        if not isinstance(context.instance.run_coordinator, NamedByProxy):
            raise InputError(
                "a break-glass is opened here only by somebody whom a proxy names, and there is none",
                do="Run `registry-pipelines break-glass open`; or put Dagster behind a proxy (docs/dagster.md)",
            )
        person = named(context, config.by.strip(), field="by", what="breaks the glass", command="break-glass open")
        try:
            lasts = Duration.parse(config.lasts.strip())
        except ValueError as error:
            raise InputError(f"`lasts`: {error}") from error
        release = chain.find_release(config.release.strip())
        made = chain.break_glass(release, person, reason=config.reason, lasts=lasts, channel=config.channel.strip())
        succeeded(context, made)


def deciding_jobs() -> list[dg.JobDefinition]:
    """Both jobs; their config is what a person writes."""

    @dg.job(name=REVOKE_JOB, description="Deny a release that turned out bad, everywhere.")
    def revoke() -> None:
        revoked()

    @dg.job(name=BREAK_GLASS_JOB, description="Let a release go against its policy, for a time.")
    def break_glass() -> None:
        glass_broken()

    return [revoke, break_glass]
