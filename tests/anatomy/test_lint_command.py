"""``lint`` on the command line: tables, the document, SARIF that its schema takes, and how it ends."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from registry_pipelines.scan.advice.kinds import DOCKERFILE_RULES, KINDS
from tests.anatomy.images import push_configured
from tests.answers import answered, document
from tests.chain.conftest import fleet
from tests.chain.fleet import Fleet
from tests.scan.images import Files
from tests.scan.test_openvex import schema
from tests.scan.test_secrets import HF

__all__ = ["fleet"]
ROOT = Path(__file__).parents[2]
LAYERS: tuple[Files, ...] = (
    {"root/.cache/pip/http/a": random.Random(4).randbytes(2_000_000), "usr/lib/python3/site-packages/x.py": "x"},
    {"app/.env": f"HF_TOKEN={HF}\n"},
)
STEPS = ("RUN /bin/sh -c pip install -r r.txt # buildkit", "COPY .env /app/ # buildkit")
TEXT = "FROM python:3.12\nRUN pip install -r r.txt\nCOPY .env /app/\nUSER 1\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["lint", *arguments], env={"COLUMNS": "250"})


def checked(path: Path) -> dict[str, dict[str, object]]:
    """Results by rule, of a file that the schema of OASIS takes."""
    log = json.loads(path.read_text())
    jsonschema.Draft7Validator(schema("sarif-schema-2.1.0.json.gz")).validate(log)
    [made] = log["runs"]
    rules = [each["id"] for each in made["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result in made["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
    return {result["ruleId"]: result for result in made["results"]}


def test_a_dockerfile_alone_needs_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Dockerfile").write_text(TEXT)
    shown = run("--dockerfile", "sub/Dockerfile", "--sarif", "out.sarif")
    assert shown.exit_code == 0 and "pip-keeps-cache" in shown.stdout and "compressed" not in shown.stdout
    results = checked(tmp_path / "out.sarif")
    place = results["pip-keeps-cache"]["locations"][0]["physicalLocation"]  # type: ignore[index]
    assert place == {"artifactLocation": {"uri": "sub/Dockerfile"}, "region": {"startLine": 2}}
    assert results["secret-copied"]["level"] == "error"
    found = answered(run("--dockerfile", "sub/Dockerfile", "--json").stdout)
    assert {(each["kind"], each["line"]) for each in found["findings"]} == {
        ("secret-copied", 3), ("pip-keeps-cache", 2), ("not-pinned", 1)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("limit", "code"),
    [("error", 3), ("secret-copied", 3), ("git", 0), ("note", 3), ("apt-recommends", 0), ("pip-kept", 8), ("1MB", 8)],
)
def test_what_it_fails_on(tmp_path: Path, limit: str, code: int) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(TEXT)
    ended = run("--dockerfile", str(path), "--fail-on", limit)
    assert ended.exit_code == code, ended.output
    if code == 3:
        assert "--fail-on" in ended.stderr and "secret-copied" in ended.output


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("Dockerfile",), 2),
        (("--target", "x"), 2),
        (("--dockerfile", "gone"), 8),
        (("--dockerfile", "Dockerfile", "--target", "x"), 8),
        (("--dockerfile", "Dockerfile", "--build-arg", "X"), 8),
        (("--dockerfile", "broken"), 8),
        (("--dockerfile", "Dockerfile", "--platform", "linux/amd64"), 2),
    ],
)
def test_wrong_input_says_what_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Dockerfile").write_text(TEXT)
    Path("broken").write_text("FROM a\nRUNN x\n")
    ended = run(*arguments, "--sarif", "out.sarif")
    assert ended.exit_code == code, ended.output
    assert not Path("out.sarif").exists()


def test_an_image_with_its_dockerfile_has_lines_and_bytes(fleet: Fleet, tmp_path: Path) -> None:
    push_configured(fleet.chain.place("app"), LAYERS, steps=STEPS, tag="v1")
    path = tmp_path / "Dockerfile"
    path.write_text(TEXT)
    image = ("us/team/app:v1", "--platform", "linux/amd64", "--config", str(fleet.path))
    both = (*image, "--dockerfile", str(path))
    found = answered(run(*both, "--json").stdout)
    told = {each["kind"]: each for each in found["findings"]}
    assert found["matched"] == 2 and found["wasted"] > 2_000_000
    assert (told["pip-cache"]["line"], told["secrets"]["line"]) == (2, 3)
    assert told["pip-keeps-cache"]["compressed"] == told["pip-cache"]["compressed"] > 1_900_000
    assert found["findings"][0]["severity"] == "error"
    ended = run(*both, "--fail-on", "1MB", "--sarif", str(tmp_path / "both.sarif"))
    assert ended.exit_code == 3, ended.output
    assert "need not be there, more than 1MB" in ended.stderr
    assert run(*both, "--fail-on", "50MB").exit_code == 0
    results = checked(tmp_path / "both.sarif")
    assert results["pip-cache"]["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}  # type: ignore[index]
    alone = run(*image, "--sarif", str(tmp_path / "image.sarif"))
    assert alone.exit_code == 0 and "pip-cache" in alone.stdout and HF not in alone.output
    secret = checked(tmp_path / "image.sarif")["secrets"]
    [location] = secret["locations"]  # type: ignore[misc]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "app/.env"  # type: ignore[has-type]
    assert location["logicalLocations"] == [{"fullyQualifiedName": "app/.env", "kind": "resource"}]  # type: ignore[has-type]
    for name in ("both.sarif", "image.sarif"):
        assert HF not in (tmp_path / name).read_text()


def test_what_is_found_of_a_release_is_signed_and_judged(fleet: Fleet) -> None:
    """From a verdict that lacks advice, by the command that it names, to one that knows it."""
    push_configured(fleet.chain.place("app"), LAYERS, tag="v1")
    for deny, code in (("secrets", 3), ("git", 0)):
        policy = "policies: {default: {required: [], image_advice: {deny: [secrets]}}}\nsigning:"
        fleet.reload(("signing:", policy) if code else ("deny: [secrets]", f"deny: [{deny}]"))
        with_config = ("--config", str(fleet.path))
        judged = CliRunner().invoke(main, ["judge", "app:v1", *with_config])
        if deny == "secrets":
            assert judged.exit_code == 3 and "image advice: none about this digest" in judged.output
            assert "lint app:v1 --attest" in " ".join(judged.output.split())
        ended = run("app:v1", "--attest", *with_config)
        assert ended.exit_code == 0 and ("has secrets" in ended.output) is bool(code), ended.output
        judged = CliRunner().invoke(main, ["judge", "app:v1", *with_config])
        assert judged.exit_code == code and ("has secrets, 1 file" in judged.output) is bool(code), judged.output
    assert run("app:v1", "--attest", "--fail-on", "error", *with_config).exit_code == 2


def test_a_history_of_another_dockerfile_gives_no_bytes(fleet: Fleet, tmp_path: Path) -> None:
    push_configured(fleet.chain.place("app"), LAYERS, steps=("RUN /bin/sh -c make", "COPY x /y"), tag="v1")
    path = tmp_path / "Dockerfile"
    path.write_text(TEXT)
    ended = run(
        "us/team/app:v1", "--platform", "linux/amd64", "--config", str(fleet.path), "--dockerfile", str(path), "--json"
    )
    found = answered(ended.stdout)
    assert found["matched"] == 0
    assert all(each["compressed"] == 0 for each in found["findings"] if each["kind"] in DOCKERFILE_RULES)


def test_an_error_is_one_document(fleet: Fleet) -> None:
    ended = run("us/team/gone:v1", "--config", str(fleet.path), "--json")
    assert ended.exit_code == 4 and document(ended.stdout)["error"]["error"] == "NotFound"


def test_the_page_has_every_kind_with_how_bad_it_is() -> None:
    page = (ROOT / "docs" / "lint.md").read_text()
    for name, kind in (*KINDS.items(), *DOCKERFILE_RULES.items()):
        assert f"| `{name}` | {kind.severity} |" in page, name


def test_a_narrow_terminal_shows_findings_as_paragraphs(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN conda install -y scipy\n")
    told = {}
    for columns in ("80", "200"):
        env = {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": columns}
        told[columns] = CliRunner().invoke(main, ["lint", "--dockerfile", str(tmp_path / "Dockerfile")], env=env).output
    assert "\n- warning, conda-keeps-cache, line 2\n  why: conda keeps each archive" in told["80"]
    assert max(map(len, told["80"].splitlines()[1:])) <= 80 and "  why: " not in told["200"]
