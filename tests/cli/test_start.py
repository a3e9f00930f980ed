"""What a command loads before it works: counted in modules, since seconds are the machine's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

from registry_pipelines.cli import _COMMANDS, main
from tests.patience import patient

MOST = 465
"""The configuration has a module for each of its sections; what a section is used by is loaded by who uses it."""
MOST_FOR_WEIGHTS = 550
"""They are moved as images are, between any two of registries, folders and object stores."""
MOST_FOR_HELP = 130
"""Bare Python with an editable installation has 68, click 36 more, its help 7, and this test's counting 5. So many take
2.5 bare starts, of which click takes 2. The 150 with subprocess and concurrent.futures took 2.9 to 3.2."""

HEAVY = ("sqlalchemy", "psycopg", "jsonschema", "cyclonedx", "boto3", "botocore", "dagster", "rich")

STARTS: dict[str, tuple[list[str], int]] = {
    "--help": ([], 0),
    "inspect": (["here/X:1"], 8),
    "pin": (["nowhere"], 8),
    "lint": (["here/X:1"], 8),
    "advise": (["111122223333.dkr.ecr.eu-west-1.amazonaws.com", "--nodes", "eu-west-1", "--size", "6GB", "--json"], 0),
    "doctor": (["--message", "pull QPS exceeded", "--json"], 0),
    "tag": (["ap", "other"], 8),
    "delete": (["ap:1", "--yes"], 8),
    "login": (["here", "--username", "me"], 8),
    "logout": (["nowhere"], 8),
    "init": ([], 8),
    "diff": (["ap:1", "ap:2"], 8),
    "completion": (["zsh"], 0),
    "ls": (["here/X:1"], 8),
    "rechunk": (["here/X:1"], 8),
    "copy": (["here/X:1", "here/y"], 8),
    "sync": (["nowhere"], 8),
    "verify-copy": (["here/X:1", "here/y"], 8),
    "stream": (["check", "ap"], 8),
    "sbom": (["ap"], 8),
    "scan": (["ap"], 8),
    "findings": (["ap"], 8),
    "verify": (["ap"], 8),
    "build": (["ap"], 8),
    "ship": (["ap"], 8),
    "status": (["ap"], 8),
    "releases": (["ap"], 8),
    "runs": (["list", "--server", "nowhere"], 8),
    "bases": (["ap"], 8),
    "provenance": (["ap:1"], 8),
    "sign": (["ap:1"], 8),
    "judge": (["ap:1"], 8),
    "approve": (["ap:1", "--as", "qa"], 8),
    "promote": (["ap:1"], 8),
    "break-glass": (["open", "ap:1", "--reason", "x", "--lasts", "1h"], 8),
    "revoke": (["ap:1", "--reason", "x"], 8),
    "replicate": (["ap:1"], 8),
    "deploy": (["web"], 8),
    "mirror": (["across"], 8),
    "mirror clusters": (["across", "--form", "idms", "--to", "out"], 8),
    "mirror --release": (["ap:1"], 8),
    "bundle": (["load", "nowhere", "disk"], 8),
    "bundle create": (["nowhere", "--to", "disk"], 8),
    "mirror lock": (["across"], 8),
    "mirror check": (["across"], 8),
    "infra": (["drift", "nowhere"], 8),
    "collect": (["plan", "nowhere"], 8),
    "recover": (["list", "nowhere"], 8),
    "weights push": (["nowhere", "here/X:1"], 8),
    "weights sign": (["here/X:1"], 8),
    "weights": (["ls", "here/X:1"], 8),
    "weights find": (["here/X:1"], 8),
    "weights out": (["here/X:1", "--to", "here/y:1"], 8),
    "weights mount": (["here/X:1", "--form", "init", "--path", "/m"], 8),
    "weights sync": (["here/X:1", "here/Y:1"], 8),
    "report cost": (["nowhere"], 8),
    "report prices": (["--prices", "nowhere"], 8),
    "report custody": (["ap"], 8),
    "report pipelines": (["nowhere"], 8),
    "report metrics": (["--to", "cloudwatch"], 8),
    "report maturity": (["ap"], 8),
    "report audit": ([], 8),
    "report receive": (["nowhere"], 8),
    "report html": (["--to", "registry-pipelines.yaml"], 2),
    "lifecycle": (["check", "nowhere"], 8),
    "report transfer": (["nowhere"], 8),
    "report what-if retention": (["nowhere"], 8),
    "report what-if rechunk": (["nowhere"], 8),
    "inventory": (["nowhere"], 8),
    "usage": (["nowhere"], 8),
    "advisories": (["import", "nowhere"], 8),
    "packages": (["check"], 8),
    "wheels": (["pull", "here/X:1", "--to", "out"], 8),
    "events": (["check"], 8),
    "rescan": (["ap"], 8),
    "sweep": (["run", "drift", "--bucket", "zz"], 2),
    "admission": (["write", "webhook", "out"], 8),
    "node": (["serve", "--socket", "nowhere"], 8),
    "harden-check": (["--database", "NO_SUCH_VARIABLE"], 8),
    "state": (["show", "--json"], 0),
    "config": (["check", "--json"], 0),
    "schema": (["scan"], 0),
}
"""Arguments with which a command gets as far as its first word about an image, and how it then ends."""

CONFIG = """
registries:
  here: {kind: distribution, host: registry.example.com}
policies:
  plain: {}
images:
  app: {registry: here, repository: app, policy: plain}
signing: {generate: true}
"""

COUNT = """
import json, os, sys
starts, folder = json.loads(sys.argv[1]), sys.argv[2]
from registry_pipelines.cli import main
for name, (arguments, _) in starts.items():
    if not os.fork():
        sys.argv = ["registry-pipelines", *name.split(), *arguments]
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1), os.dup2(null, 2)
        code = 1
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            with open(os.path.join(folder, name), "w") as file:
                json.dump([code, sorted(sys.modules)], file)
            os._exit(0)
    os.wait()
"""

ALL = """
import importlib, json, pkgutil, sys
import registry_pipelines
for each in pkgutil.walk_packages(registry_pipelines.__path__, "registry_pipelines."):
    if each.name not in ("registry_pipelines.shared.server", *(f"registry_pipelines.cli.{name}" for name in
        ("bars", "demonstration", "terminal"))) and not each.name.endswith(("_process", "_question")):
        importlib.import_module(each.name)
print(json.dumps(sorted(sys.modules)))
"""


def heavy(modules: list[str]) -> set[str]:
    return {name for name in HEAVY if name in modules}


def test_every_command_starts_with_few_modules(tmp_path: Path) -> None:
    config = tmp_path / "registry-pipelines.yaml"
    config.write_text(CONFIG)
    (tmp_path / "counts").mkdir()
    run = [sys.executable, "-c", COUNT, json.dumps(STARTS), str(tmp_path / "counts")]
    subprocess.run(run, cwd=tmp_path, check=True, timeout=patient(60))
    found = {name: json.loads((tmp_path / "counts" / name).read_text()) for name in STARTS}
    assert {name: code for name, (code, _) in found.items()} == {name: code for name, (_, code) in STARTS.items()}
    most = {name: MOST_FOR_WEIGHTS if name.startswith("weights") else MOST for name in found}
    assert {name: len(modules) for name, (_, modules) in found.items() if len(modules) > most[name]} == {}
    assert len(found["--help"][1]) <= MOST_FOR_HELP
    assert {name: heavy(modules) for name, (_, modules) in found.items() if heavy(modules)} == {}
    assert {name.split()[0] for name in STARTS} == set(_COMMANDS) - {"demo", "dev", "serve", "serve-admission"} | {
        "--help"
    }


def test_no_room_loads_what_only_some_of_its_users_need() -> None:
    ran = subprocess.run([sys.executable, "-c", ALL], capture_output=True, text=True, check=True, timeout=patient(60))
    assert heavy(json.loads(ran.stdout)) == set()


def test_the_list_of_commands_says_what_they_say_themselves() -> None:
    context = click.Context(main)
    for name, (_, text) in _COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert " ".join((command.help or "").split()).startswith(text), name
