"""``mirror``: foreign images and promoted releases across an air gap, and what the clusters behind it need."""

from __future__ import annotations

from inspect import cleandoc
from pathlib import Path

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.errors import INCOMPLETE
from registry_pipelines.cli.names import IMAGES, names_of
from registry_pipelines.errors import InputError
from registry_pipelines.mirror.model import CLUSTER_FORMS, ClusterForm

_OF_A_CHANGE = ("change", "upstream", "tag", "before", "now", "size_bytes", "repository")
DEFAULT = "run"
"""What ``mirror NAME`` means; ``mirror run NAME`` says it for a mirror that has a command's name."""


class _Mirror(click.Group):
    """``mirror NAME`` is ``mirror run NAME``: most people type nothing else."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group("mirror", cls=_Mirror, subcommand_metavar="[COMMAND] [ARGS]...")
def mirror_group() -> None:
    """Bring the foreign images of a mirror across; `mirror NAME` is `mirror run NAME`."""


@mirror_group.command(DEFAULT, short_help="Bring a mirror up to date, or take a release across.")
@click.argument("name", required=False, shell_complete=names_of("mirrors"))
@click.option(
    "--release",
    "release",
    metavar="RELEASE",
    shell_complete=IMAGES,
    help="Take this promoted release across, no upstreams.",
)
@click.option("--upstream", default="", metavar="IMAGE", help="Only this one, as the configuration writes it.")
@click.option("--dry-run", is_flag=True, help="Say what would be copied, and what it takes of quotas; change nothing.")
@common
def run(options: Options, name: str | None, release: str | None, upstream: str, dry_run: bool) -> None:
    """Bring the foreign images of a mirror (all mirrors unless named) up to date, or take one release across.

    Where an upstream announces a quota of pulls (Docker Hub), it is said before how many this needs and how many are
    left until when. Tags are looked at by HEAD, which is not counted.
    """
    if release is not None and (dry_run or upstream):
        option = "--dry-run" if dry_run else "--upstream"
        raise InputError(f"{option} is for upstreams", do="`replicate RELEASE --compare` says what differs")
    if upstream and name is None:
        raise InputError("--upstream needs the mirror's NAME")
    with options.chain() as chain:
        if release is not None:
            wanted = chain.find_release(release)
            names = [name] if name else chain.mirrors(wanted.image)
            results = [chain.mirror_release(wanted, each) for each in names]
            nothing = f"nothing is mirrored: no mirror has {wanted.image} among its `images`"
        else:
            several = chain.config.mirrors.items()
            names = [name] if name else [each for each, one in several if one.upstreams or one.artifacts]
            results = [chain.mirror(each, upstream=upstream, dry_run=dry_run) for each in names]
            nothing = "nothing is mirrored: no mirror of the configuration has `upstreams` or `artifacts`"
    from registry_pipelines.cli.releases import answer_all

    answer_all(options, results, not_ok=INCOMPLETE, nothing=nothing)


@mirror_group.command("clusters", short_help="Write what clusters need to find the mirrored images.")
@click.argument("name", shell_complete=names_of("mirrors"))
@click.option(
    "--form", type=click.Choice(list(CLUSTER_FORMS)), metavar="FORM", required=True, help="One of those above."
)
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", required=True, help="Folder."
)
@common
def clusters(options: Options, name: str, form: ClusterForm, folder: Path) -> None:
    """Write the files by which a cluster pulls a mirror's images by their own names; no registry is asked.

    \b
    {forms}

    No account is in any file; the answer says where it goes. What a form cannot say is an error that names every image.
    With `keep_host` of the mirror no two upstreams share a path.
    """
    with options.chain() as chain:
        result = chain.clusters(name, form, folder)
    from registry_pipelines.cli.releases import answer

    answer(options, result)


width = max(map(len, CLUSTER_FORMS))
clusters.help = cleandoc(clusters.help or "").format(
    forms="\n".join(f"{form.ljust(width)}  {what}" for form, what in CLUSTER_FORMS.items())
)


@mirror_group.command("lock", short_help="Pin every upstream by digest, in a file to review.")
@click.argument("name", shell_complete=names_of("mirrors"))
@click.option("--dry-run", is_flag=True, help="Say what would change in the lock; write nothing.")
@click.option("--check", is_flag=True, help="The same, and end with 6 where anything would change.")
@common
def lock(options: Options, name: str, dry_run: bool, check: bool) -> None:
    """Write the lock of a mirror (`mirrors.NAME.lock`): every upstream and tag by digest, one line each, sorted, with
    platforms and size, so that a review shows what comes in.

    With a lock the mirror takes exactly what it says. An upstream that cannot be read keeps its lines (exit 6).
    """
    with options.chain() as chain:
        result = chain.lock_mirror(name, dry_run=dry_run, check=check)
    from registry_pipelines.cli.output import console, rows_table
    from registry_pipelines.cli.releases import answer_all

    if result.rows and not options.as_json:
        changes = [{name: row[name] for name in _OF_A_CHANGE} for row in result.rows]
        console().print(rows_table(changes, title=f"changes of {result.facts['file']}"))
    answer_all(options, [result], not_ok=INCOMPLETE)


@mirror_group.command("check", short_help="Compare the DMZ with the private registry, and say how old that is.")
@click.argument("name", shell_complete=names_of("mirrors"))
@click.option("--upstream", default="", metavar="IMAGE", help="Only this one, as the configuration writes it.")
@common
def check(options: Options, name: str, upstream: str) -> None:
    """Whether the private registry holds what the DMZ does, digest for digest, and when each upstream was last brought
    whole, by the signed record in the registry. Nothing is written.

    Exit 3: an upstream is older than `mirrors.NAME.max_age`; 6: something differs.
    """
    with options.chain() as chain:
        results = [chain.compare_mirror(name, upstream=upstream), chain.mirror_age(name, upstream=upstream)]
    from registry_pipelines.cli.releases import answer_all

    answer_all(options, results, not_ok=INCOMPLETE)


COMMANDS = [mirror_group]
