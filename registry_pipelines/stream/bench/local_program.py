"""A program started in a folder as its root, with nothing of ours between it and its files.

Run as ``python -m registry_pipelines.stream.bench.local_program FOLDER JSON`` in mounts and process numbers of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from registry_pipelines.stream.lazy.mounting import MS_BIND, MS_REC, mount


def local_command(folder: Path, config: Mapping[str, Any] | None, command: Sequence[str]) -> list[str]:
    """The command that starts it, as root. config, command: as for ``stream run``. Raises InputError,
    ManifestInvalid."""
    from registry_pipelines.stream.lazy.running import program_of

    program = program_of(config, command, None)
    apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [*apart, sys.executable, "-m", __name__, str(folder), json.dumps(vars(program))]


def start(folder: Path, program: Mapping[str, Any]) -> NoReturn:
    """Become the program."""
    from registry_pipelines.stream.lazy.running import find_user

    for name in ("proc", "dev", "tmp"):
        (folder / name).mkdir(exist_ok=True)
    mount("proc", folder / "proc", "proc")
    mount("/dev", folder / "dev", "", MS_BIND | MS_REC)
    os.chroot(folder)
    user, group, groups, home = find_user(program["user"])
    os.chdir(program["folder"] if Path(program["folder"]).is_dir() else "/")
    os.setgroups(groups)
    os.setgid(group)
    os.setuid(user)
    environment = {**program["environment"], **({"HOME": home} if home else {})}
    os.execvpe(program["arguments"][0], list(program["arguments"]), environment)  # noqa: S606 - that is what was asked


if __name__ == "__main__":
    start(Path(sys.argv[1]), json.loads(sys.argv[2]))
