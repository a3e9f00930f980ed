"""``serve-admission`` and ``admission``: what may start in clusters."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines import interrupts
from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json, print_json_now
from registry_pipelines.cli.output import harmless
from registry_pipelines.errors import EvidenceError, InputError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.promote.admission.model import FORMS, Form

if TYPE_CHECKING:
    from registry_pipelines.promote.admission.judging import Decision
    from registry_pipelines.promote.admission.review import Request

MAX_OBJECT_BYTES = 8 * 1024 * 1024
"""Of a file of objects; an API server takes 3 MiB of one."""


@click.command("serve-admission")
@common
def serve_admission(options: Options) -> None:
    """Answer API servers that ask what may start in a cluster, until Ctrl-C or TERM.

    Where and by which rules the section `admission` says; each refusal is a line on stderr.
    """
    from registry_pipelines.registry.embedded.running import serve

    with options.chain() as chain, chain.admission_webhook(None if options.quiet else _told) as server:
        interrupts.mark_wanted()
        serve([server], ready=lambda servers: _announce(options, servers[0].url))


@click.group("admission")
def admission() -> None:
    """Write what may start in clusters for other programs, or check objects by it."""


@admission.command("write")
@click.argument("form", type=click.Choice(list(FORMS)), metavar="FORM")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@common
def write(options: Options, form: Form, folder: Path) -> None:
    """Write the rules into a folder, in one of these forms.

    \b
    {forms}
    """
    with options.chain() as chain:
        files = chain.admission_files(form)
    for name, content in files.items():
        path = folder / name
        with local_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
    if options.as_json:
        print_json({"files": [str(folder / name) for name in files]})
    else:
        for name in files:
            click.echo(str(folder / name))


width = max(map(len, FORMS))
write.help = cleandoc(write.help or "").format(
    forms="\n".join(f"{form.ljust(width)}  {what}" for form, what in FORMS.items())
)


@admission.command("check")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR")
@click.argument("objects", type=click.Path(path_type=Path, exists=True, dir_okay=False), nargs=-1, required=True)
@common
def check(options: Options, folder: Path, objects: tuple[Path, ...]) -> None:
    """Check objects of a cluster, in YAML or JSON, by the Rego that `admission write rego` wrote into DIR; no registry
    and no cluster is asked. Exit 3: one of them may not be made."""
    from registry_pipelines.chain.admission_files import checked

    with local_errors(folder):
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".rego", ".json")}
    named = [(str(path), each) for path in objects for each in _objects(path)]
    found = checked(files, [each for _, each in named])
    rows = [
        {"file": path, "object": _name(each), "reason": reason}
        for (path, each), reasons in zip(named, found, strict=True)
        for reason in reasons
    ]
    if options.as_json:
        print_json({"checked": len(named), "refused": rows})
    else:
        for row in rows:
            click.echo(harmless(f"{row['file']}: {row['object']}: {row['reason']}"))
        click.echo(f"{len(named)} checked, {sum(map(bool, found))} may not start", err=True)
    if rows:
        sys.exit(EvidenceError.exit_code)


def _objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a file; of a List its items. Raises InputError."""
    import yaml

    with local_errors(path), path.open("rb") as file:
        raw = file.read(MAX_OBJECT_BYTES + 1)
    if len(raw) > MAX_OBJECT_BYTES:
        raise InputError(f"the file is larger than {MAX_OBJECT_BYTES} bytes", where=str(path))
    try:
        documents = [each for each in yaml.safe_load_all(raw) if each is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"this is no YAML: {error}", where=str(path)) from error
    found = [item for each in documents for item in _items(each)]
    if not all(isinstance(each, dict) and isinstance(each.get("kind"), str) for each in found):
        raise InputError("what is in it has no `kind`", where=str(path), do="Give objects of a cluster")
    return found


def _items(document: Any) -> list[Any]:
    items = document.get("items") if isinstance(document, dict) and document.get("kind") == "List" else None
    return items if isinstance(items, list) else [document]


def _name(content: dict[str, Any]) -> str:
    metadata = content.get("metadata")
    return f"{content['kind']}/{metadata.get('name', '') if isinstance(metadata, dict) else ''}"


def _announce(options: Options, url: str) -> None:
    if options.as_json:
        print_json_now({"url": url})
    else:
        click.echo(f"{url} answers what may start")


def _told(asked: Request, decision: Decision) -> None:
    """A line for each image that may not start, and each warning."""
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    about = f"{asked.operation} {asked.kind.kind} {asked.namespace}/{asked.name}"
    lines = [f"{moment} refused {about}: {each}" for each in decision.refusals]
    lines += [f"{moment} allowed {about}: {each}" for each in decision.warnings if decision.allowed]
    for line in lines:
        click.echo(harmless(line.replace("\n", " ")), err=True)


COMMANDS = [serve_admission, admission]
