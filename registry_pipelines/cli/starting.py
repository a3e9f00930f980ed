"""``init``: a first configuration and a key."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeVar, cast

import click

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.output import (
    console,
)
from registry_pipelines.config import FILE_NAME, load
from registry_pipelines.config.model import Config
from registry_pipelines.config.starter import (
    DOCKERFILE,
    EMBEDDED,
    FIRST_VERSION,
    Answers,
    Spot,
    is_dockerfile,
    starter_file,
)
from registry_pipelines.errors import InputError
from registry_pipelines.oci.files import local_errors, write_file
from registry_pipelines.registry.ecr.hosts import read_host
from registry_pipelines.settings import REPOSITORY

FIRST_PORT = 5500

T = TypeVar("T")


@click.command("init")
@click.option(
    "--registry",
    metavar="HOST",
    help=f"Registry of the image, with its repository or without; {EMBEDDED}: served here.",
)
@click.option("--repository", help="Repository of the image in it, like team/app.")
@click.option(
    "--requirement",
    "requirements",
    multiple=True,
    metavar="TEXT",
    help="Build it, with this Python package or requirements file; may be repeated. Without: it is pushed by others.",
)
@click.option(
    "--dockerfile", metavar="PATH", help="Build it of a Dockerfile: its folder, or the file, below the configuration's."
)
@click.option("--target", metavar="HOST[/PREFIX]", help="Registry that promoted releases must reach, too.")
@click.option("--promote", type=click.Choice(["manual", "auto"]), help="Who lets an allowed release go.")
@common
def init(
    options: Options,
    registry: str | None,
    repository: str | None,
    requirements: tuple[str, ...],
    dockerfile: str | None,
    target: str | None,
    promote: str | None,
) -> None:
    """Write a first configuration with comments, and a signing key; asks five questions, or takes options.

    The file is that of --config, or registry-pipelines.yaml here. Nothing that is there is overwritten.
    """
    path = options.config_file or Path(FILE_NAME)
    if path.exists():
        raise InputError("the file is there already, and is left as it is", where=str(path), do="Give another --config")
    ask = sys.stdin.isatty() and not options.as_json
    if not ask and not repository and "/" not in (registry or ""):
        raise InputError("nobody can be asked here", do="Give --repository, and what else `init --help` lists")
    answers = _answers(ask, registry, repository, requirements, dockerfile, target, promote, path.parent)
    config, made = _write(path, answers)
    steps = next_steps(answers, path)
    if options.as_json:
        print_json({"file": str(path), "key": str(config.signing_key), "key_made": made, "next": steps})
        return
    out = console()
    out.print(f"written: {path}", markup=False, soft_wrap=True)
    out.print(f"{'made' if made else 'there already'}: {config.signing_key}", markup=False, soft_wrap=True)
    out.print("\nnext:")
    for step in steps:
        out.print(f"  {step}", markup=False, soft_wrap=True)


def _answers(
    ask: bool,
    registry: str | None,
    repository: str | None,
    requirements: tuple[str, ...],
    dockerfile: str | None,
    target: str | None,
    promote: str | None,
    folder: Path,
) -> Answers:
    """The options, and what a person says where one is missing. Raises InputError for an option that cannot be."""
    source = _answer(
        ask and registry is None,
        f"Registry of your image (a host like ghcr.io; {EMBEDDED}: one that is served here)",
        registry or EMBEDDED,
        lambda text: Spot.read(text, name="local"),
    )
    wanted = repository or source.path
    where = _answer(ask and not wanted, "Repository of the image, like team/app", wanted, REPOSITORY.check)
    if dockerfile and requirements:
        raise InputError("--dockerfile and --requirement are two ways to build it", do="Give one of them")
    packages = _answer(
        ask and not requirements and not dockerfile,
        "What it is built of: a folder with a Dockerfile, Python packages or a requirements file (nothing: it is pushed"
        " by others)",
        shlex.join(requirements),
        shlex.split,
    )
    if ask and len(packages) == 1 and not requirements and _has_dockerfile(folder, packages[0]):
        dockerfile, packages = packages[0], []
    if dockerfile and not _has_dockerfile(folder, dockerfile):
        raise InputError("there is no Dockerfile", where=str(folder / dockerfile), do="Name its folder, or the file")
    files = [text for text in packages if (folder / text).is_file()]
    missing = [text for text in packages if text.endswith(".txt") and text not in files]
    if missing:
        raise InputError("there is no such file", where=str(folder / missing[0]), do="Check the name")
    if len(files) > 1 or (files and len(packages) > 1):
        raise InputError("one requirements file or packages, not both", do="Name packages in the file")

    def finished(text: str) -> Answers:
        return Answers(
            source=source,
            repository=where,
            requirements=() if files else tuple(packages),
            requirements_file=files[0] if files else "",
            dockerfile=dockerfile or "",
            target=Spot.read(text, name="replica") if text else None,
            ports=_free_ports(),
        )

    answers = _answer(
        ask and target is None,
        "Registry that every promoted release must reach, too (host, host/prefix; nothing: none)",
        target or "",
        finished,
    )
    who = _answer(
        ask and promote is None,
        "Who lets an allowed release go: manual (a person) or auto",
        promote or "manual",
        _choice,
    )
    return Answers(**{**vars(answers), "promote": who})


def _has_dockerfile(folder: Path, text: str) -> bool:
    return (folder / text / DOCKERFILE).is_file() or (is_dockerfile(text) and (folder / text).is_file())


def _choice(text: str) -> Literal["manual", "auto"]:
    if text not in ("manual", "auto"):
        raise ValueError("write manual or auto")
    return cast(Literal["manual", "auto"], text)


def _answer(ask: bool, question: str, default: str, read: Callable[[str], T]) -> T:
    """What a person answers, asked again until it can be read; the default where nobody is asked. Raises InputError."""
    while ask:
        text = click.prompt(question, default=default, show_default=bool(default), err=True)
        try:
            return read(text.strip())
        except ValueError as error:
            click.echo(f"  {error}", err=True)
    try:
        return read(default)
    except ValueError as error:
        raise InputError(str(error)) from error


def _free_ports() -> tuple[int, int]:
    """Two neighbours that nobody listens on now, from ``FIRST_PORT`` on."""
    for port in range(FIRST_PORT, FIRST_PORT + 200, 2):
        with ExitStack() as stack:
            try:
                for each in (port, port + 1):
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", each))
            except OSError:
                continue
            return port, port + 1
    return FIRST_PORT, FIRST_PORT + 1


def _write(path: Path, answers: Answers) -> tuple[Config, bool]:
    """The configuration, read back, and its key; whether that was made. Both or no configuration. Raises InputError,
    LocalError."""
    with local_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, starter_file(answers).encode())
    try:
        return _with_key(load(path))
    except BaseException:  # what stops it now stops it again, and the file would be in the way then
        path.unlink(missing_ok=True)
        raise


def _with_key(config: Config) -> tuple[Config, bool]:
    from registry_pipelines.evidence.keys import generate_key

    with local_errors(config.state):
        config.state.mkdir(parents=True, exist_ok=True)
        if not (config.state / ".gitignore").exists():
            write_file(config.state / ".gitignore", b"*\n")  # the key is in there
        config.signing_key.parent.mkdir(parents=True, exist_ok=True)
    made = not config.signing_key.exists()
    if made:
        generate_key(config.signing_key)
    return config, made


def next_steps(answers: Answers, path: Path) -> list[str]:
    """The commands to type now, in order."""
    program = "registry-pipelines"
    named = (
        []
        if path.name == FILE_NAME and path.parent == Path()
        else [f"export REGISTRY_PIPELINES_CONFIG={shlex.quote(str(path))}"]
    )
    logins = [
        f"{program} login {name}" for name, spot in answers.registries.items() if spot.host and not read_host(spot.host)
    ]
    release = answers.image if answers.built else f"{answers.image}:{FIRST_VERSION}"
    host = answers.source.host or f"127.0.0.1:{answers.ports[0]}"
    served = [] if answers.source.host else [f"{program} serve   # in another terminal"]
    pushed = [] if answers.built else [*served, f"docker push {host}/{answers.repository}:{FIRST_VERSION}"]
    ship = f"{program} ship {release}"
    # Which advisories are wanted is known when it is known what is in the image.
    first = [*pushed, f"{ship} --until sbom", f"{program} advisories update"]
    return [*named, f"{program} config check", *logins, *first, ship, f"{program} dev"]


COMMANDS = [init]
