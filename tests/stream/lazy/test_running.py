"""What an image's config says of the program that is started."""

from __future__ import annotations

from typing import Any

import pytest

from registry_pipelines.errors import InputError, ManifestInvalid
from registry_pipelines.stream.lazy.running import DEFAULT_PATH, program_of


@pytest.mark.parametrize(
    ("config", "command", "entrypoint", "expected"),
    [
        ({"Cmd": ["a", "b"]}, (), None, ("a", "b")),
        ({"Cmd": ["a", "b"]}, ("c",), None, ("c",)),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, (), None, ("e", "a")),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, ("c",), None, ("e", "c")),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, (), "own", ("own",)),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, ("c",), "own", ("own", "c")),
        (None, ("c",), None, ("c",)),
    ],
)
def test_arguments_are_those_of_docker(
    config: dict[str, Any] | None, command: tuple[str, ...], entrypoint: str | None, expected: tuple[str, ...]
) -> None:
    assert program_of(config, command, entrypoint).arguments == expected


def test_environment_folder_and_user() -> None:
    found = program_of({"Cmd": ["a"], "Env": ["X=1=2", "EMPTY="], "WorkingDir": "/app", "User": "me:us"}, (), None)
    assert found.environment == {"PATH": DEFAULT_PATH, "HOME": "/root", "X": "1=2", "EMPTY": ""}
    assert (found.folder, found.user) == ("/app", "me:us")
    assert program_of({"Cmd": ["a"], "Env": ["PATH=/x"]}, (), None).environment["PATH"] == "/x"


def test_configs_that_name_no_program() -> None:
    for config in (None, {}, {"Cmd": None, "Entrypoint": []}):
        with pytest.raises(InputError, match="names no program"):
            program_of(config, (), None)
    for wrong in ({"Cmd": "text"}, {"Cmd": [1]}, {"Cmd": ["a"], "User": 5}, {"Cmd": ["a"], "Env": {"A": "b"}}):
        with pytest.raises(ManifestInvalid):
            program_of(wrong, (), None)
