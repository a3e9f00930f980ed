"""Pipelines of CI systems: each system's own schema and linters take them, what people wrote stays, and what no
pipeline could do is refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import jsonschema
import pytest
import yaml
from botocore.validate import ParamValidator
from check_jsonschema.builtin_schemas import get_builtin_schema
from click.testing import CliRunner, Result
from google.auth import identity_pool
from google.cloud.devtools import cloudbuild_v1
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from registry_pipelines.cli import main
from registry_pipelines.errors import InputError
from registry_pipelines.report.pipelines.job import quoted
from registry_pipelines.report.pipelines.kept import Line, Yours, read, renewed, written

BIN = Path(sys.executable).parent
CONTAINER = f"registry.example.com/tools/registry-pipelines@sha256:{'a' * 64}"
PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/ci/providers/git"
AWS = "{role: 'arn:aws:iam::111122223333:role/ci', region: eu-west-1}"
GOOGLE = f"{{service_account: ci@ml-prod.iam.gserviceaccount.com, provider: {PROVIDER}}}"
CONFIGURATION = """\
registries:
  eu: {{kind: ecr, account: "111122223333", region: eu-west-1}}
images:
  app:
    registry: eu
    repository: team/app
    build: {{version: "${{VERSION:-dev}}", application: images/app, requirements: [numpy]}}
  tool:
    registry: eu
    repository: "team/${{TOOL:-tool}}"
    dockerfile: {{version: "${{VERSION:-dev}}", context: images/tool, engine: buildx}}
signing: {{kms: "awskms:alias/release", public: key.pub}}
pipelines:
  ci: {0}
"""
KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE6XIWBQkUD3T2K8PjTgFbZ8ZrV3tV
5o1E2Xf2S9xqf3Jm1r1b7o0YQy2lqG0rX8yYb5GkzT0ZfJmQe0n1E0n9Vw==
-----END PUBLIC KEY-----
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder in ("images/app", "images/tool", "libs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "images/tool/Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "key.pub").write_text(KEY)
    git(tmp_path, "init", "-q")
    git(tmp_path, "-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "--allow-empty", "-m", "first")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+01:00", "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(
        ["git", *words], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout


def configure(repository: Path, settings: str) -> Path:
    path = repository / "registry-pipelines.yaml"
    path.write_text(CONFIGURATION.format(settings))
    return path


def write(repository: Path, settings: str, *options: str, code: int = 0) -> Result:
    path = configure(repository, settings)
    ran = CliRunner().invoke(main, ["report", "pipelines", *options, "--config", str(path)])
    assert ran.exit_code == code, (ran.output, ran.stderr)
    return ran


def made(repository: Path, settings: str, name: str) -> Any:
    write(repository, settings)
    return yaml.safe_load((repository / name).read_text())


GITHUB = (
    f"{{kind: github, git_tags: 'v*', aws: {AWS}, google: {GOOGLE}, secrets: [INDEX_PASSWORD], "
    "variables: {PLAIN: 'a $b \"c\"'}, paths: {app: ['libs/**']}}"
)
GITLAB = f"{{kind: gitlab, runner: linux, git_tags: 'v*', container: '{CONTAINER}', aws: {AWS}, google: {GOOGLE}}}"
CLOUD_BUILD = (
    f"{{kind: cloud-build, git_tags: 'v*', container: '{CONTAINER}', secrets: [INDEX_PASSWORD], "
    "variables: {PLAIN: a$b}, google: {service_account: ci@ml-prod.iam.gserviceaccount.com}}"
)
CODEBUILD = "{kind: codebuild, git_tags: 'v*', secrets: [INDEX_PASSWORD], variables: {PLAIN: a}, images: [app]}"


@pytest.mark.parametrize(
    ("settings", "schema", "names"),
    [
        (GITHUB, "vendor.github-workflows", [".github/workflows/image-app.yml", ".github/workflows/image-tool.yml"]),
        (GITLAB, "vendor.gitlab-ci", [".gitlab/image-app.gitlab-ci.yml", ".gitlab/image-tool.gitlab-ci.yml"]),
        (CLOUD_BUILD, "vendor.cloudbuild", ["cloudbuild/image-app.yaml", "cloudbuild/image-tool.yaml"]),
    ],
)
def test_each_system_takes_its_files(repository: Path, settings: str, schema: str, names: list[str]) -> None:
    write(repository, settings)
    rules = get_builtin_schema(schema)
    validator = jsonschema.validators.validator_for(rules)(rules)
    for name in names:
        content = YAML(typ="safe").load(repository / name)
        assert not [error.message for error in validator.iter_errors(content)]
        first = next(iter(content))
        assert list(validator.iter_errors({**content, first: 7}))  # it would say something


def test_a_linter_of_security_finds_nothing_in_workflows(repository: Path) -> None:
    write(repository, GITHUB)
    command = [str(BIN / "zizmor"), "--offline", "--no-progress", "--persona", "auditor", "."]
    checked = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    path = repository / ".github/workflows/image-app.yml"  # and it would
    path.write_text(path.read_text().replace("persist-credentials: false", "persist-credentials: true"))
    assert subprocess.run(command, cwd=repository, capture_output=True).returncode != 0


def test_a_workflow_keeps_no_key_and_names_actions_by_commit(repository: Path) -> None:
    workflow = made(repository, GITHUB, ".github/workflows/image-app.yml")
    assert workflow["permissions"] == {}
    job = workflow["jobs"]["ship"]
    assert job["environment"] == "images"
    assert job["permissions"] == {"contents": "read", "id-token": "write"}
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert len(used) == 4 and all(len(each.partition("@")[2]) == 40 for each in used)
    assert job["env"] == {"PLAIN": 'a $b "c"', "INDEX_PASSWORD": "${{ secrets.INDEX_PASSWORD }}"}
    pushed = workflow[True]["push"]  # YAML 1.1 reads `on` so; GitHub does not
    assert pushed["branches"] == ["main"] and pushed["tags"] == ["v*"]
    assert {"registry-pipelines.yaml", "images/app/**", "libs/**"} < set(pushed["paths"])
    assert "images/tool/**" not in pushed["paths"]
    assert job["steps"][-1]["run"].startswith("registry-pipelines ship app --until sign ")


def script_of(repository: Path, kind: str) -> str:
    if kind == "github":
        workflow = made(repository, GITHUB, ".github/workflows/image-app.yml")
        return "\n".join(step["run"] for step in workflow["jobs"]["ship"]["steps"][-2:])
    if kind == "gitlab":
        return "\n".join(made(repository, GITLAB, ".gitlab/image-app.gitlab-ci.yml")["image-app"]["script"])
    if kind == "codebuild":
        return "\n".join(
            made(repository, CODEBUILD, "codebuild/image-app.buildspec.yml")["phases"]["build"]["commands"]
        )
    return str(made(repository, CLOUD_BUILD, "cloudbuild/image-app.yaml")["steps"][0]["script"])


HOSTILE = "v1;touch$IFS'pwned'\"$(touch${IFS}pwned)`touch${IFS}pwned`${{github.actor}}"
"""git takes it for the name of a tag."""


@pytest.mark.parametrize(
    ("kind", "tagged"),
    [
        ("github", {"GIT_TAG": "v1.2.3"}),
        ("gitlab", {"CI_COMMIT_TAG": "v1.2.3"}),
        ("codebuild", {"CODEBUILD_WEBHOOK_HEAD_REF": "refs/tags/v1.2.3"}),
        ("github", {"GIT_TAG": HOSTILE}),
        ("gitlab", {"CI_COMMIT_TAG": HOSTILE}),
        ("codebuild", {"CODEBUILD_WEBHOOK_HEAD_REF": f"refs/tags/{HOSTILE}"}),
        ("cloud-build", {"TAG_NAME": HOSTILE, "COMMIT_SHA": "0" * 40}),
        ("cloud-build", {"TAG_NAME": "v1.2.3", "COMMIT_SHA": "0" * 40}),
    ],
)
def test_a_shell_runs_it_with_the_version_of_the_tag_or_of_the_commit(
    repository: Path, tmp_path: Path, kind: str, tagged: dict[str, str]
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "registry-pipelines").write_text('#!/bin/sh\necho "$VERSION $*" > "$SAID"\n')
    (programs / "registry-pipelines").chmod(0o755)
    script = script_of(repository, kind)
    commit = git(repository, "rev-parse", "HEAD").strip()
    on_branch = dict.fromkeys(tagged, "") | ({"COMMIT_SHA": commit} if kind == "cloud-build" else {})
    for told in (tagged, on_branch):
        environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "SAID": str(tmp_path / "said"),
            "GITHUB_ENV": os.devnull,
            "TMPDIR": str(tmp_path),
            "AWS_ID_TOKEN": "the-token-of-aws",
            "GOOGLE_ID_TOKEN": "the-token-of-google",
            **told,
        }
        ran = subprocess.run(["sh", "-euc", script], cwd=repository, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert "the-token" not in ran.stdout + ran.stderr
        version, *words = (tmp_path / "said").read_text().split()
        assert words == ["ship", "app", "--until", "sign", "--config", "registry-pipelines.yaml"]
        if told is tagged:
            assert version == ("v1.2.3" if "v1.2.3" in "".join(tagged.values()) else HOSTILE)
            assert not (repository / "pwned").exists()
        elif kind == "cloud-build":
            assert version.endswith(f"-g{commit[:12]}")
        else:
            assert version == f"2026.01.02-020405-g{commit[:12]}"


def test_googles_library_reads_the_credentials_that_gitlab_writes(repository: Path, tmp_path: Path) -> None:
    script = script_of(repository, "gitlab").partition("version=")[0]
    told = {**os.environ, "TMPDIR": str(tmp_path), "GOOGLE_ID_TOKEN": "of google", "AWS_ID_TOKEN": "of aws"}
    ran = subprocess.run(
        ["sh", "-euc", script + 'echo "$GOOGLE_APPLICATION_CREDENTIALS $AWS_WEB_IDENTITY_TOKEN_FILE"'],
        env=told, cwd=repository, capture_output=True, text=True, check=True,
    )  # fmt: skip
    google_file, aws_file = ran.stdout.split()
    assert Path(aws_file).read_text() == "of aws" and Path(aws_file).parent.stat().st_mode & 0o077 == 0
    found = identity_pool.Credentials.from_file(google_file)
    assert found.service_account_email == "ci@ml-prod.iam.gserviceaccount.com"
    assert found.retrieve_subject_token(None) == "of google"


def test_googles_types_read_the_triggers(repository: Path) -> None:
    write(repository, CLOUD_BUILD)
    for on in ("branch", "tag"):
        trigger = yaml.safe_load((repository / f"cloudbuild/image-app.{on}.trigger.yaml").read_text())
        read_back = cloudbuild_v1.BuildTrigger.pb(cloudbuild_v1.BuildTrigger())
        json_format.ParseDict(trigger, read_back)
        push = read_back.repository_event_config.push
        assert push.tag == "^v.*$" if on == "tag" else push.branch == "^main$"
        assert ("images/app/**" in read_back.included_files) is (on == "branch")
        assert read_back.service_account.endswith("/ci@ml-prod.iam.gserviceaccount.com")


def test_awss_model_takes_the_webhook(repository: Path) -> None:
    told = json.loads(write(repository, CODEBUILD, "--json").stdout)["result"]["results"][0]["next_steps"]
    [line] = [each for each in told if each.startswith("aws codebuild update-webhook --project-name image-app ")]
    words = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line.partition('aws ')[2]}"], capture_output=True, text=True
    ).stdout
    groups = json.loads(words.splitlines()[-1])
    model = botocore.session.get_session().get_service_model("codebuild").operation_model("UpdateWebhook").input_shape
    report = ParamValidator().validate({"projectName": "image-app", "filterGroups": groups}, model)
    assert not report.has_errors(), report.generate_report()
    [touched] = [each["pattern"] for each in groups[0] if each["type"] == "FILE_PATH"]
    assert re.search(touched, "images/app/deep/main.py") and not re.search(touched, "docs/images/app/x")


def test_what_people_wrote_is_kept(repository: Path) -> None:
    write(repository, GITHUB)
    path = repository / ".github/workflows/image-app.yml"
    own = "      - name: Ours\n        run: make test\n"
    text = path.read_text()
    mark = "      # >>> yours: before (steps; kept when this file is written again)\n"
    path.write_text(text.replace(mark, mark + own))
    assert write(repository, GITHUB, "--check").exit_code == 0
    write(repository, GITHUB.replace("'v*'", "'nightly*'").replace("kind:", "branch: trunk, kind:"), code=8)
    assert own in path.read_text(), "nightly1.2.3 is no version, and nothing was written"
    write(repository, GITHUB.replace("kind:", "branch: trunk, kind:"))
    assert own in path.read_text() and '["trunk"]' in path.read_text()


def test_what_was_changed_outside_of_the_marks_is_not_lost_silently(repository: Path) -> None:
    write(repository, GITHUB)
    path = repository / ".github/workflows/image-app.yml"
    path.write_text(path.read_text().replace("timeout-minutes: 120", "timeout-minutes: 5"))
    before = path.read_text()
    assert "timeout-minutes: 5" in write(repository, GITHUB, code=8).stderr and path.read_text() == before
    write(repository, GITHUB, "--over")
    assert "timeout-minutes: 120" in path.read_text()
    path.write_text("on: push\n")
    assert "was not written by this command" in write(repository, GITHUB, "--over", code=8).stderr
    ran = write(repository, GITHUB, "--check", code=3)
    assert "was not written by this command" in ran.output.replace("\n", " ") and path.read_text() == "on: push\n"


def test_check_says_what_is_missing_or_other(repository: Path) -> None:
    assert "is not there" in write(repository, GITHUB, "--check", code=3).output
    assert not (repository / ".github").exists()
    write(repository, GITHUB)
    write(repository, GITHUB, "--check")
    assert "not as it would be written" in write(repository, GITHUB.replace("v*", "v2*"), "--check", code=3).output


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{kind: gitlab}", "pipelines.ci.container: is needed"),
        (f"{{kind: cloud-build, container: '{CONTAINER}', aws: {AWS}}}", "vouches for itself to Google alone"),
        (f"{{kind: codebuild, aws: {AWS}}}", "has its role itself"),
        ("{kind: github, secrets: [AWS_SECRET_ACCESS_KEY]}", "a key that lives until somebody takes it away"),
        ("{kind: github, google: {service_account: ci@ml-prod.iam.gserviceaccount.com}}", "google.provider: is needed"),
        ("{kind: github, version: RELEASE}", "does not read ${RELEASE}"),
        ("{kind: github, git_tags: 'nightly*'}", "is no release of app"),
        ("{kind: github, actions: {actions/checkout: v7}}", "40 hex digits"),
        (f"{{kind: github, actions: {{some/action: {'a' * 40}}}}}", "some/action is not used"),
        ("{kind: github, container: 'tools/x:latest'}", "write REPOSITORY@sha256"),
    ],
)
def test_what_no_pipeline_could_do_is_said_before_a_file_is_written(repository: Path, settings: str, said: str) -> None:
    assert said in write(repository, settings, code=8).stderr.replace("\n", " ")
    assert not [each for each in repository.rglob("image-*") if each.is_file()]


def test_each_tag_has_its_run_and_no_value_is_an_expression(repository: Path) -> None:
    workflow = made(
        repository,
        "{kind: github, variables: {ODD: 'a $${{ github.actor }}'}}",
        ".github/workflows/image-app.yml",
    )
    assert workflow["concurrency"] == {"group": "image-app-${{ github.ref }}", "cancel-in-progress": False}
    assert workflow["jobs"]["ship"]["env"]["ODD"] == "a ${{ '${{' }} github.actor }}"


@pytest.mark.parametrize("name", ["a\nb: c", "${{ github.actor }}", "$HOME", "app[1]", "!app", "c++", "what?"])
def test_a_path_that_is_something_else_to_a_ci_system_is_refused(repository: Path, name: str) -> None:
    configuration, odd = configure(repository, "{kind: github}"), repository / "images" / name
    odd.mkdir()
    moved = repository / "images" / f"{name}.yaml"
    quoted_ = json.dumps(f"images/{name}".replace("${", "$${"))
    text = configuration.read_text()
    configuration.write_text(text.replace("application: images/app", f"application: {quoted_}"))
    moved.write_text(text.replace("images/", "").replace("key.pub", "../key.pub"))
    for folder in ("app", "tool"):
        (repository / "images" / folder).mkdir(exist_ok=True)
    for path in (configuration, moved):
        ran = CliRunner().invoke(main, ["report", "pipelines", "--config", str(path)])
        assert ran.exit_code == 8 and "CI systems take for" in ran.stderr.replace("\n", " "), ran.stderr
    assert not (repository / ".github").exists()


@pytest.mark.parametrize("settings", [GITHUB, GITLAB, CLOUD_BUILD, CODEBUILD])
def test_spaces_and_quotes_in_paths_stay_what_they_are(repository: Path, tmp_path: Path, settings: str) -> None:
    odd = 'it\'s "my" app; touch pwned #'
    (repository / odd).mkdir()
    path = repository / odd / "c o'n.yaml"
    inner = CONFIGURATION.format(
        settings.replace("kind:", "images: [app], kind:") if "images:" not in settings else settings
    )
    path.write_text(inner.replace("images/app", ".").replace("images/tool", "..").replace("key.pub", "../key.pub"))
    ran = CliRunner().invoke(main, ["report", "pipelines", "--config", str(path)])
    assert ran.exit_code == 0, ran.stderr
    texts = [each.read_text() for each in repository.rglob("image-app*") if each.is_file()]
    words = ["registry-pipelines", "ship", "app", "--until", "sign", "--config", f"{odd}/c o'n.yaml"]
    found = [each for text in texts for each in _strings(yaml.safe_load(text)) if "registry-pipelines ship" in each]
    assert [shlex.split(each.splitlines()[-1]) for each in found] == [words]


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [each for one in value.values() for each in _strings(one)]
    if isinstance(value, list):
        return [each for one in value for each in _strings(one)]
    return [value] if isinstance(value, str) else []


def test_a_long_name_makes_two_triggers(repository: Path) -> None:
    path, long = configure(repository, CLOUD_BUILD), "a" * 60
    path.write_text(path.read_text().replace("  app:", f"  {long}:").replace("app: [", f"{long}: ["))
    ran = CliRunner().invoke(main, ["report", "pipelines", "--config", str(path)])
    assert ran.exit_code == 0, ran.stderr
    triggers = [yaml.safe_load(each.read_text()) for each in repository.glob(f"cloudbuild/image-{long}.*.trigger.yaml")]
    assert len({each["name"] for each in triggers}) == 2 and all(len(each["name"]) <= 64 for each in triggers)


def test_files_that_requirements_name_are_what_an_image_is_made_of(repository: Path) -> None:
    (repository / "pins").mkdir()
    (repository / "all.txt").write_text("-r pins/more.txt\nnumpy\n")
    (repository / "pins/more.txt").write_text("-c only.txt\npandas\n")
    (repository / "pins/only.txt").write_text("pandas==2.2.3\n")
    path = configure(repository, "{kind: github}")
    path.write_text(path.read_text().replace("requirements: [numpy]", "requirements_file: all.txt"))
    ran = CliRunner().invoke(main, ["report", "pipelines", "--config", str(path)])
    assert ran.exit_code == 0, ran.stderr
    workflow = yaml.safe_load((repository / ".github/workflows/image-app.yml").read_text())
    assert {"all.txt", "pins/more.txt", "pins/only.txt"} < set(workflow[True]["push"]["paths"])


def test_an_image_has_one_pipeline_of_a_system_also_where_one_of_two_is_named(repository: Path) -> None:
    write(repository, "{kind: github}\n  more: {kind: codebuild}", "ci")
    settings = "{kind: github}\n  more: {kind: github, branch: release/1.x, images: [tool]}"
    for names in ((), ("ci",), ("more",)):
        said = write(repository, settings, *names, code=8).stderr.replace("\n", " ")
        assert "ci and more of `pipelines` would write the same file, for tool" in said
    assert '["main"]' in (repository / ".github/workflows/image-tool.yml").read_text()


@pytest.mark.parametrize("kind", ["kind: layout, root: shelf", "kind: embedded, port: 5000"])
def test_a_registry_of_the_runner_itself_is_refused(repository: Path, kind: str) -> None:
    cloud = 'kind: ecr, account: "111122223333", region: eu-west-1'
    for settings, code in (("{kind: github}", 8), ("{kind: github, runner: ours}", 0)):
        path = configure(repository, settings)
        path.write_text(path.read_text().replace(cloud, kind))
        ran = CliRunner().invoke(main, ["report", "pipelines", "--config", str(path)])
        assert ran.exit_code == code, ran.stderr
        assert code == 0 or "and goes with it" in ran.stderr.replace("\n", " ")


def test_a_key_in_a_file_is_no_key_of_a_pipeline(repository: Path) -> None:
    path = configure(repository, "{kind: github}")
    path.write_text(path.read_text().replace('{kms: "awskms:alias/release", public: key.pub}', "{key: signing.key}"))
    ran = CliRunner().invoke(main, ["report", "pipelines", "--config", str(path)])
    assert ran.exit_code == 8 and "the key of the builder is a file, and a pipeline keeps none" in ran.stderr


def test_what_the_configuration_reads_must_come_from_somewhere(repository: Path) -> None:
    path = configure(repository, "{kind: github}")
    path.write_text(path.read_text().replace("${TOOL:-tool}", "${TOOL}"))
    ran = CliRunner(env={"TOOL": "only-here"}).invoke(main, ["report", "pipelines", "--config", str(path)])
    assert ran.exit_code == 8 and "reads ${TOOL}" in ran.stderr and "only-here" not in ran.stderr


LINES: list[Line] = ["a: 1", Yours("one", 2, "x"), "b: 2", Yours("two", 0, "y")]
texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30), max_size=5
).map(lambda lines: [each for each in lines if ">>> yours" not in each and "<<< yours" not in each])


@given(texts, texts)
def test_any_lines_between_the_marks_come_back(one: list[str], two: list[str]) -> None:
    kept = {name: own for name, own in (("one", one), ("two", two)) if own}
    text = written(LINES, "c.yaml", kept)
    found = read(text, where="f")
    assert found.kept == kept and not found.changed
    assert renewed(LINES, "c.yaml", text, where="f") == text


def test_a_place_that_is_no_more_loses_nothing() -> None:
    text = written(LINES, "c.yaml", {"two": ["mine"]})
    with pytest.raises(InputError, match="is no more"):
        renewed(LINES[:3], "c.yaml", text, where="f")


@given(st.text(max_size=40))
def test_any_text_is_one_scalar(text: str) -> None:
    assert yaml.safe_load(f"a: {quoted(text)}") == {"a": text}
