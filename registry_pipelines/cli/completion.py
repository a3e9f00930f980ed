"""``completion``: what a shell needs to complete our commands, options and names."""

from __future__ import annotations

import sys

import click
from click.shell_completion import get_completion_class

from registry_pipelines.cli.context import Options, common
from registry_pipelines.cli.envelope import print_json
from registry_pipelines.cli.help import PROGRAM

VARIABLE = "_REGISTRY_PIPELINES_COMPLETE"
"""What click looks for, made of the program's name; set by the script when a shell asks."""

SETUPS = {
    "bash": f'eval "$({PROGRAM} completion bash)"   # in ~/.bashrc',
    "zsh": f'eval "$({PROGRAM} completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": f"{PROGRAM} completion fish > ~/.config/fish/completions/{PROGRAM}.fish",
}


@click.command(
    "completion", epilog="\b\nTo have it in every shell:\n" + "\n".join(f"  {setup}" for setup in SETUPS.values())
)
@click.argument("shell", type=click.Choice(list(SETUPS)))
@common
def completion(options: Options, shell: str) -> None:
    """Print the script that completes commands in a shell.

    Options and the names of the configuration, too.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    script = kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source()
    if options.as_json:
        print_json({"shell": shell, "script": script})
    else:
        sys.stdout.write(script + "\n")


COMMANDS = [completion]
