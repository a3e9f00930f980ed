"""``infra terraform``: declared settings as files of Terraform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.names import names_of
from registry_pipelines.cli.output import console, harmless
from registry_pipelines.errors import InputError, LocalError

if TYPE_CHECKING:
    from registry_pipelines.infra.terraform.writing import Written


@click.command("terraform", short_help="Write what is declared as files of Terraform.")
@click.argument("registries", nargs=-1, shell_complete=names_of("infra"))
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
    help="Write files there, in place of one document on stdout.",
)  # fmt: skip
@click.option("--aws", type=click.Choice(["5", "6"]), default="6", show_default=True, help="Version of the provider.")
@click.option("--take-over", is_flag=True, help="Also write import blocks, for what exists already.")
@common
def terraform(options: Options, registries: tuple[str, ...], output: Path | None, aws: str, take_over: bool) -> None:
    """Write what `infra` declares of REGISTRIES (all, unless given) as files of Terraform, `*.tf.json`.

    Asks no cloud. What Terraform cannot be told is left out: it is named in the files and on stderr.
    """
    with options.chain() as chain:
        if not registries and not chain.registries_with_settings():
            raise InputError("the configuration declares no settings", do="Add `infra` (docs/infra.md)")
        made = chain.terraform(registries, aws=5 if aws == "5" else 6, take_over=take_over)
    notes = list(made.left_out)
    if output is not None:
        notes += _write(output, made)
    if options.as_json:
        print_json({"files": sorted(str((output or Path()) / name) for name in made.files), "left_out": notes})
    elif output is None:
        click.echo(json.dumps(_merged(made), indent=2, ensure_ascii=False))
    else:
        for name in sorted(made.files):
            console().print(f"written: {output / name}", markup=False, soft_wrap=True)
    for note in notes:
        click.echo(harmless(f"not as declared: {note}" if note in made.left_out else note), err=True)


def _write(folder: Path, made: Written) -> list[str]:
    """Write the files; those of an earlier run that nothing declares now are named. Files of others are not touched."""
    from registry_pipelines.infra.terraform.writing import HEAD

    found = {path.name: _head(path) for path in sorted(folder.glob("*.tf.json"))} if folder.is_dir() else {}
    others = [name for name in made.files if found.get(name, HEAD) != HEAD]
    if others:
        do = "Move it, or choose another --output"
        raise InputError(f"{', '.join(others)} is there, and was not written by this command", where=str(folder), do=do)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in made.files.items():
            (folder / name).write_bytes(content)
    except OSError as error:
        raise LocalError(f"the files cannot be written: {error.strerror}", where=str(folder)) from error
    old = [name for name, head in found.items() if head == HEAD and name not in made.files]
    return [f"{folder / name} is of an earlier run, and nothing declares it now: delete it" for name in old]


def _head(path: Path) -> str:
    """What the first line of a file's comment says."""
    try:
        document = json.loads(path.read_bytes())
        return str(document["//"][0])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return ""


def _merged(made: Written) -> dict[str, Any]:
    """All files as one, which Terraform reads as well."""
    whole: dict[str, Any] = {"//": []}
    for name, content in sorted(made.files.items()):
        for key, value in json.loads(content).items():
            if key == "//":
                whole[key] += [f"{name}: {line}" for line in value]
            elif key in ("resource", "data"):
                for kind, blocks in value.items():
                    whole.setdefault(key, {}).setdefault(kind, {}).update(blocks)
            else:
                whole[key] = value
    return whole
