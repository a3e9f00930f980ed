"""``init``: five questions, or options; a file that ``config check`` passes, and a key."""

from __future__ import annotations

import stat
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from registry_pipelines.cli import main
from registry_pipelines.config import load
from registry_pipelines.evidence.keys import load_signer, load_verifier
from tests.answers import answered
from tests.cli.test_bad_input import PROGRAM
from tests.terminal import typed


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REGISTRY_PIPELINES_CONFIG", raising=False)


def run(*arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(main, list(arguments))
    assert found.exit_code == code, found.output
    return found.output


def test_five_questions_make_a_configuration_a_key_and_say_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "wanted.txt").write_text("numpy\n")
    answers = [
        ("Registry of your image", "no host\n"),
        ("write host or host:port", ""),
        ("Registry of your image", "registry.example.com:5000\n"),
        ("Repository of the image", "Team/App\n"),
        ("Repository of the image", "team/app\n"),
        ("Python packages or", "wanted.txt\n"),
        ("must reach, too", "registry.example.com:5000\n"),
        ("put a prefix behind it", ""),
        ("must reach, too", "eu.example.com/copies\n"),
        ("manual (a person) or auto", "auto\n"),
    ]
    code, screen = typed([*PROGRAM, "init"], answers)
    assert code == 0
    for step in ("config check", "login registry", "login eu", "ship app"):
        assert f"registry-pipelines {step}\n" in screen
    config = load(tmp_path / "registry-pipelines.yaml", {})
    image = config.images["app"]
    assert image.build is not None and image.build.requirements_file == tmp_path / "wanted.txt"
    assert (image.promote, config.targets["elsewhere"].prefix) == ("auto", "copies")
    key_id = load_signer(config.signing_key).key_id
    assert load_verifier(config.trusted_keys).key_ids == (key_id,)
    assert stat.S_IMODE(config.signing_key.stat().st_mode) == 0o600
    assert (config.state / ".gitignore").read_text() == "*\n"
    assert "no problems" in run("config", "check")


def test_options_take_the_place_of_questions() -> None:
    told = answered(run("init", "--registry", "ghcr.io/team/app", "--promote", "manual", "--json"))
    assert told["next"][0] == "registry-pipelines config check"
    assert "docker push ghcr.io/team/app:v0.1.0" in told["next"] and told["key_made"]
    commands = [step.split()[1] for step in told["next"] if step.startswith("registry-pipelines")]
    assert {"config", "login", "ship", "dev"} <= set(commands) <= set(main.list_commands(click.Context(main)))
    assert "no problems" in run("config", "check")
    config = load(Path("registry-pipelines.yaml"), {})
    assert config.images["app"].build is None and not config.targets


@pytest.mark.parametrize(
    ("named", "context", "file"),
    [("app", "app", None), ("app/Dockerfile", "app", None), ("app/gpu.Dockerfile", "app", "app/gpu.Dockerfile")],
)
def test_who_has_a_dockerfile_names_it(tmp_path: Path, named: str, context: str, file: str | None) -> None:
    (tmp_path / "app").mkdir()
    for name in ("Dockerfile", "gpu.Dockerfile"):
        (tmp_path / "app" / name).write_text("FROM scratch\n")
    told = answered(run("init", "--registry", "ghcr.io/team/app", "--dockerfile", named, "--json"))
    assert not any("docker push" in step for step in told["next"])
    config = load(tmp_path / "registry-pipelines.yaml", {})
    spec = config.images["app"].dockerfile
    assert spec is not None and (spec.context, spec.file) == (tmp_path / context, file and tmp_path / file)
    assert "provenance" in config.policies["default"].required
    assert "no problems" in run("config", "check")


def test_a_folder_with_a_dockerfile_answers_what_it_is_built_of(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "Dockerfile").write_text("FROM scratch\n")
    asked = [*PROGRAM, "init", "--registry", "ghcr.io/team/app", "--target", "", "--promote", "manual"]
    code, _ = typed(asked, [("a folder with a Dockerfile", "./app\n")])
    assert code == 0
    spec = load(tmp_path / "registry-pipelines.yaml", {}).images["app"].dockerfile
    assert spec is not None and spec.context == tmp_path / "app"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    run("init", "--repository", "team/app", "--requirement", "numpy")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "is there already" in run("init", "--repository", "other", code=8)
    told = answered(run("init", "--repository", "other", "--config", "second.yaml", "--json"))
    assert not told["key_made"] and told["next"][0] == "export REGISTRY_PIPELINES_CONFIG=second.yaml"
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nobody can be asked here"),
        (["--repository", "Team/App"], "is not a repository name"),
        (["--repository", "app", "--registry", "no host"], "is not a registry host"),
        (["--repository", "app", "--registry", "ghcr.io", "--target", "ghcr.io"], "put a prefix behind it"),
        (["--repository", "app", "--requirement", "numpy", "--requirement", "wanted.txt"], "not both"),
        (["--repository", "app", "--requirement", "wnated.txt"], "wnated.txt: there is no such file"),
        (["--repository", "app", "--dockerfile", "ap"], "ap: there is no Dockerfile"),
        (["--repository", "app", "--dockerfile", ".", "--requirement", "numpy"], "are two ways to build it"),
    ],
)
def test_slips_are_told_and_nothing_is_written(tmp_path: Path, arguments: list[str], told: str) -> None:
    (tmp_path / "wanted.txt").write_text("numpy\n")
    assert told in run("init", *arguments, code=8)
    assert [path.name for path in tmp_path.iterdir()] == ["wanted.txt"]


def test_without_its_key_there_is_no_configuration_either(tmp_path: Path) -> None:
    """Else the second try would find the file, and the first never made a key."""
    public = tmp_path / ".registry-pipelines" / "keys" / "signing.pub"
    public.parent.mkdir(parents=True)
    public.write_text("of a private key that is elsewhere")
    assert "is never overwritten" in run("init", "--repository", "team/app", code=8)
    assert not (tmp_path / "registry-pipelines.yaml").exists()
    public.unlink()
    assert "made:" in run("init", "--repository", "team/app")
