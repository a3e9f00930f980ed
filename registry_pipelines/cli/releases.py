"""The stages, one command each. They answer with one StageResult, or with a list of them for many releases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from registry_pipelines.chain import Chain, StageResult
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import IMAGES, names_of
from registry_pipelines.cli.output import (
    console,
    print_alerts,
    print_next_steps,
    print_results,
    print_stage_lines,
    results_table,
    show_result,
)
from registry_pipelines.errors import EvidenceError, InputError, RegistryPipelinesError
from registry_pipelines.evidence.predicates import ROLES, Role
from registry_pipelines.progress import count_text, size_text
from registry_pipelines.release import Release
from registry_pipelines.transfer.closure import omissions

RELEASE_HELP = "RELEASE is image:tag, image@digest, its key, or the image alone when it has one release."


def answer(options: Options, result: StageResult) -> None:
    """Print a result; end with the code of a denied gate when it is not ok."""
    show_result(result, as_json=options.as_json)
    if not result.ok:
        sys.exit(EvidenceError.exit_code)


def answer_all(
    options: Options, results: list[StageResult], *, not_ok: int = EvidenceError.exit_code, nothing: str = ""
) -> None:
    """Print several results, as a JSON list or one table; end with ``not_ok`` when one of them is not ok, or with the
    code that all have in common. nothing: said where there is no result."""
    if options.as_json:
        print_results(results)
    elif not results:
        console().print(nothing, markup=False, soft_wrap=True)
    else:
        print_alerts(alert for result in results for alert in result.alerts)
        console().print(results_table(results))
        print_stage_lines(results)
        print_next_steps(list(dict.fromkeys(step for result in results for step in result.next_steps)))
    if not all(result.ok for result in results):
        codes = {0 if result.ok else result.exit_code or not_ok for result in results}
        sys.exit(codes.pop() if len(codes) == 1 else not_ok)


def stage_command(
    name: str, text: str, run: Callable[[Chain, Release], StageResult], *, notifies: bool = False
) -> click.Command:
    """A command that runs one stage for one release. notifies: whether its failure is told."""

    def body(options: Options, release: str) -> None:
        with options.chain() as chain:
            wanted = chain.find_release(release)
            try:
                result = run(chain, wanted)
            except RegistryPipelinesError as error:
                if notifies:
                    chain.notify_failed(wanted, name, error)
                raise
        answer(options, result)

    body.__doc__ = f"{text}\n\n{RELEASE_HELP}"
    return click.command(name)(click.argument("release", shell_complete=IMAGES)(common(body)))


@click.command("build")
@click.argument("images", nargs=-1, metavar="[IMAGE]...", shell_complete=IMAGES)
@click.option(
    "--propose-ignore", is_flag=True, help="Build nothing; print a .dockerignore that keeps bytes out of the context."
)
@common
def build(options: Options, images: tuple[str, ...], propose_ignore: bool) -> None:
    """Build images (all that have a `build` or `dockerfile` section unless named) and push them. Where releases
    are derived (`stream`), that is done, too."""
    with options.chain() as chain:
        if propose_ignore:
            _propose_ignore(options, chain, images)
            return
        names = images or [name for name, image in chain.config.images.items() if image.made_here]
        results = [result for name in names for result in chain.make_release(name)]
    answer_all(options, results, nothing="nothing is built: no image has a `build` or `dockerfile` section")


def _propose_ignore(options: Options, chain: Chain, images: tuple[str, ...]) -> None:
    if len(images) != 1:
        raise InputError("--propose-ignore is for one image", do="Name it")
    context, proposal = chain.propose_ignore(images[0])
    if options.as_json:
        lines = [
            {"pattern": line.pattern, "why": line.why, "bytes": line.byte_count, "files": line.file_count}
            for line in proposal.lines
        ]
        print_json(
            {
                "files": context.file_count,
                "bytes": context.byte_count,
                "largest": [{"path": path, "bytes": size} for path, size in context.largest()],
                "lines": lines,
                "kept": list(proposal.kept),
                "text": proposal.text,
            }
        )
        return
    # The text alone on stdout, for a file; the rest beside it.
    click.echo(proposal.text, nl=False)
    told = f"{count_text(context.file_count, 'file')}, {size_text(context.byte_count)}"
    click.echo(f"# the context has {told}; this keeps {size_text(proposal.byte_count)} out", err=True)
    for path, size in context.largest():
        click.echo(f"#   {size_text(size)} {path}", err=True)
    for kept in proposal.kept:
        click.echo(f"# kept: {kept}", err=True)


@click.command("sign")
@click.argument("release", required=False, shell_complete=IMAGES)
@click.option("--generate-key", is_flag=True, help="Make the key pair that the configuration names; sign nothing.")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="With --generate-key: write it here.")
@click.option(
    "--form", type=click.Choice(["pkcs8", "cosign"]), default="pkcs8", show_default=True, help="With --generate-key."
)
@click.option("--role", type=click.Choice(ROLES), help="With --generate-key: the key of this role alone.")
@common
def sign(
    options: Options, release: str | None, generate_key: bool, key: Path | None, form: str, role: Role | None
) -> None:
    """Sign a release, and what its build and scan left unsigned; a report only when it keeps the policy's limits.

    RELEASE is image:tag, image@digest, its key, or the image alone when it has one release.
    """
    if generate_key:
        if release is not None:
            raise InputError("--generate-key takes no release")
        _generate(options, key, form, role)
        return
    if release is None or key is not None or role is not None:
        raise InputError("a release is wanted" if release is None else "--key and --role need --generate-key")
    with options.chain() as chain:
        result = chain.sign(chain.find_release(release))
    answer(options, result)


def _generate(options: Options, key: Path | None, form: str, role: Role | None) -> None:
    config = options.config_if_any()
    if key is None and config is None:
        raise InputError("there is no configuration that names a key", do="Give --key FILE or --config FILE")
    path, password = key, ""
    if config is not None:
        own = config.signing.of(role) if role else None
        path = key or (config.signing_key_of(role) if role else config.signing_key)
        password = (own or config.signing).password.reveal()
    if path is None:
        raise InputError(f"the configuration names no key of the {role}", do=f"Write signing.{role}.key, or give --key")
    from registry_pipelines.evidence.keys import generate_key

    made = generate_key(path, password=password, form="cosign" if form == "cosign" else "pkcs8")
    if options.as_json:
        print_json({"private": str(made.private), "public": str(made.public), "key_id": made.key_id})
    else:
        click.echo(f"private key: {made.private}\npublic key:  {made.public}\nkey id:      {made.key_id}")


@click.command("promote")
@click.argument("release", shell_complete=IMAGES)
@click.option("--channel", default="", metavar="NAME", help="To which, of an image with several.")
@common
def promote(options: Options, release: str, channel: str) -> None:
    """Move the image's channel tag to a release that its policy allows; back to an earlier one, too.

    RELEASE is image:tag, image@digest, its key, or the image alone when it has one release.
    """
    with options.chain() as chain:
        wanted = chain.find_release(release)
        try:
            result = chain.promote(wanted, channel=channel)
        except RegistryPipelinesError as error:
            chain.notify_failed(wanted, "promote", error)
            raise
    answer(options, result)


@click.command("replicate")
@click.argument("release", shell_complete=IMAGES)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=names_of("targets"),
    help="Only this target; may be repeated.",
)
@click.option("--check", is_flag=True, help="Copy nothing; list what differs at the targets.")
@common
def replicate(options: Options, release: str, targets: tuple[str, ...], check: bool) -> None:
    """Copy a promoted release to its targets, or list what differs there.

    RELEASE is image:tag, image@digest, its key, or the image alone when it has one release.
    """
    with options.chain() as chain:
        wanted = chain.find_release(release)
        names = targets or chain.targets_of(wanted)
        if check:
            results = [_compare(chain, wanted, name) for name in names]
        elif len(names) == 1:
            results = [chain.replicate(wanted, names[0])]
        else:
            results = [_replica_result(wanted, *each) for each in chain.replicate_to(wanted, names).items()]
    nothing = f"images.{wanted.image} has no `targets`, so there is nothing to copy or compare"
    answer_all(options, results, not_ok=INCOMPLETE, nothing=nothing)


def _replica_result(release: Release, target: str, outcome: StageResult | RegistryPipelinesError) -> StageResult:
    """The result of one of several targets, also where its copy ended with an error."""
    if isinstance(outcome, StageResult):
        return outcome
    return StageResult(
        stage=f"replicate:{target}",
        subject=release.key,
        action="failed",
        digest=release.digest,
        reasons=[str(outcome)],
        ok=False,
        exit_code=outcome.exit_code,
    )


def _compare(chain: Chain, release: Release, target: str) -> StageResult:
    comparison = chain.compare_replica(release, target)
    differences, not_compared = comparison.differences, omissions.note(comparison.not_compared)
    equal = "equal in all that was compared" if not_compared else "equal"
    return StageResult(
        stage=f"compare:{target}",
        subject=release.key,
        action=count_text(len(differences), "difference") if differences else equal,
        digest=release.digest,
        facts={"differences": len(differences)},
        tables={"not_compared": omissions.rows(comparison.not_compared)},
        reasons=[str(each) for each in differences],
        notes=[f"not compared: {not_compared}"] if not_compared else [],
        ok=not differences,
    )


COMMANDS = [
    build,
    stage_command("provenance", "Show how a release was made, as its builder attached it.", Chain.provenance),
    sign,
    stage_command(
        "judge",
        "Judge a release by its policy and attach the signed verdict; exit 3 is deny.",
        Chain.judge,
        notifies=True,
    ),
    promote,
    replicate,
]
