"""The command line: a thin door to the library. Each command's module is named after what it is about.

``GROUPS`` says which module has which command; only that one is loaded, so that ``--help`` and a plain copy start at
once. A new command is a row there, below its purpose, and a function in that module's ``COMMANDS``. A command reads its
options (``context``), calls :class:`~registry_pipelines.chain.Chain` (or ``transfer`` and ``registry`` for images
without a configuration) and prints the answer (``output``). ``errors`` has the exit codes; ``progress`` and ``bars``
say how far the work is. Nothing imports this room.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from registry_pipelines import __version__
from registry_pipelines.cli.errors import exit_code_table, say_interrupted
from registry_pipelines.interrupts import prompt_end

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

GROUPS = {
    "Start": {
        "init": ("starting", "Write a first configuration with comments, and a signing key"),
        "demo": ("demonstration", "Build two images and take them through the whole chain"),
        "dev": ("serving", "Serve the Dagster UI with its daemon, and the embedded registries"),
        "serve": ("serving", "Serve the configuration's embedded registries, or one from --root"),
        "login": ("logins", "Keep a user name and a password of a registry"),
        "logout": ("logins", "Forget what login kept"),
        "state": ("state", "Show where the state is, and bring a folder's into the database that workers share"),
        "completion": ("completion", "Print the script that completes commands in a shell"),
        "config": ("configuration", "Check a configuration"),
        "harden-check": (
            "hardening",
            "Check that a running deployment is closed to those who may not come in",
        ),
        "schema": ("schemas", "Print the JSON schema of what a command prints with --json"),
    },
    "Every day": {
        "ship": (
            "shipping",
            "Take one release through the whole chain: build, index, scan, sign, judge, promote, copy",
        ),
        "status": ("status", "Show where images stand"),
        "releases": ("status", "List the releases that the source registries hold"),
        "runs": ("running", "Launch runs in Dagster, and see what became of them"),
        "events": ("events", "Show what registries tell by themselves"),
        "bases": ("bases", "Show which images stand on which approved base"),
    },
    "Stages of a release, in order": {
        "build": ("releases", "Build images"),
        "provenance": ("releases", "Show how a release was made"),
        "stream": ("streaming", "Let images start before they are fetched whole"),
        "sbom": ("contents", "List what is in an image"),
        "scan": ("contents", "Find known vulnerabilities"),
        "findings": ("findings", "Write the findings of a release for other programs: SARIF, OpenVEX"),
        "sign": ("releases", "Sign a release"),
        "verify": ("contents", "Check that a trusted key signed exactly this image"),
        "judge": ("releases", "Judge a release by its policy and attach the signed verdict"),
        "approve": ("approving", "Approve a release as a person, or take that back"),
        "promote": ("releases", "Move the image's channel tag to a release that its policy allows"),
        "break-glass": ("intervening", "Let a release go against its policy for a time"),
        "revoke": ("intervening", "Deny a release that turned out bad"),
        "replicate": ("releases", "Copy a promoted release to its targets, or list what differs there"),
        "deploy": ("deploying", "Roll what a channel names out to where it runs, by digest"),
        "mirror": ("mirroring", "Bring the foreign images of a mirror across"),
        "bundle": ("bundles", "Carry a mirror across an air gap as files, with receipts for the way back"),
    },
    "Clusters": {
        "serve-admission": ("admission", "Answer API servers that ask what may start in a cluster"),
        "admission": (
            "admission",
            "Write what may start in clusters for other programs, or check objects by it",
        ),
        "node": ("node", "Keep the images of a node for its container runtime"),
    },
    "Images": {
        "ls": ("listing", "List the tags of a repository, with digest, age and size"),
        "inspect": ("inspection", "Show what belongs to an image"),
        "lint": ("linting", "Say what an image or its Dockerfile should do otherwise"),
        "pin": ("pinning", "Write the images of a Dockerfile by digest"),
        "advise": ("advising", "Say where nodes should pull an image from"),
        "doctor": ("doctor", "Explain why an image does not come (ImagePullBackOff)"),
        "tag": ("tagging", "Give an image one more tag in its repository, by digest"),
        "diff": ("comparing", "Show what changed from one image to another"),
        "rechunk": ("rechunk", "Make an image anew with one package a layer"),
        "weights": ("weights", "Keep the weights of models in registries, beside the images that need them"),
        "copy": ("images", "Copy an image with everything that belongs to it"),
        "sync": ("syncing", "Bring chosen tags of many repositories, with all that belongs to them"),
        "verify-copy": ("syncing", "Compare an image and all that belongs to it with its copy"),
    },
    "See": {
        "report": ("reporting", "Say what teams cost, what was deleted and by whom, and who shipped a release"),
    },
    "Keep clean": {
        "advisories": ("advisories", "Fetch what scans compare with, and say how old it is"),
        "packages": ("packages", "Show where Python packages come from, and publish some"),
        "wheels": ("wheels", "Bring the wheels that a build needs to where no index is"),
        "sweep": ("sweeps", "Look at a whole fleet in 256 parts: drift, lag, cost"),
        "rescan": ("advisories", "Match new advisories with what is released; no layer is read"),
        "delete": ("deletion", "Delete one image with the evidence that refers to it"),
        "infra": ("infra", "Set registries in clouds as `infra` of the configuration declares"),
        "inventory": ("inventories", "List every image that registries hold"),
        "usage": ("inventories", "Show which images run, and where"),
        "lifecycle": ("lifecycles", "Say what a cloud's own cleanup policy does, image by image"),
        "collect": ("retention", "Let go of what nothing needs, by the retention rules"),
        "recover": ("recovering", "Back registries up, bring a moment back, and drill that it works"),
    },
}
"""What ``--help`` shows, by purpose: where each command is, and what it does, in the first words of its own help. A
command's module is loaded when it is called: a copy needs no scanner, no signer and no builder, and starts in a third
of the time without them."""

COLLECT_AFTER = 50_000
"""New objects after which Python looks for circles. A start's objects all stay, and with a configuration and a key they
are 45,000: at 10,000 each start looked five times at them, which took a tenth of it, and at Python's own 700 more."""

_COMMANDS = {name: row for rows in GROUPS.values() for name, row in rows.items()}


def load_command(module: str, name: str) -> click.Command:
    """A command of a module of this room, which is imported now."""
    found = importlib.import_module(f"registry_pipelines.cli.{module}").COMMANDS
    command: click.Command = next(command for command in found if command.name == name)
    return command


def fail_with_nearest(ctx: click.Context, name: str, known: Iterable[str]) -> None:
    """End with the nearest of the known names where there is one; they may be of two words, of which the last is held
    against ``name``. Raises UsageError."""
    if name.startswith("-") or ctx.resilient_parsing:
        return
    from difflib import get_close_matches

    by_last = {each.rpartition(" ")[2]: each for each in reversed(list(known))}
    if near := get_close_matches(name, by_last, n=1):
        ctx.fail(f"No such command {name!r}; did you mean {by_last[near[0]]!r}?")


def _below(ctx: click.Context) -> Iterator[str]:
    """What is often looked for without the group that it is in: ``cost`` is ``report cost``."""
    for name in ("report", "recover"):
        group = load_command(_COMMANDS[name][0], name)
        if isinstance(group, click.Group):
            yield from (f"{name} {each}" for each in group.list_commands(ctx))


class _Commands(click.Group):
    """The commands of ``GROUPS``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return load_command(_COMMANDS[cmd_name][0], cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, and it names the command that was meant."""
        if args[0] not in _COMMANDS:
            fail_with_nearest(ctx, args[0], [*_COMMANDS, *_below(ctx)])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The lists in ``--help``, one below the other; no command is loaded for them."""
        widest = max(map(len, _COMMANDS))
        for purpose, rows in GROUPS.items():
            with formatter.section(purpose):
                formatter.write_dl([(name.ljust(widest), text) for name, (_, text) in rows.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands that begin so; none is loaded for it."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # while a command's module is loaded; from then on the command sees to it
            ctx.exit(say_interrupted())

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The whole program, in its main thread."""
        gc.set_threshold(COLLECT_AFTER)
        try:
            with prompt_end():
                return super().__call__(*arguments, **named)
        finally:
            gc.freeze()  # Python looks for circles once more at its end


@click.group(cls=_Commands, epilog=exit_code_table(), context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="registry-pipelines")
def main() -> None:
    """The container-image supply chain: build, index, scan, sign, promote, replicate, mirror, collect.

    Every command takes --json (one document on stdout, see `schema`; messages on stderr) and ends with a documented
    exit code. An image may be written with a configured registry's name in front: us-east-1/ml/forecaster:prod.
    """
