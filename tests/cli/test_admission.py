"""The webhook as a process, and the objects that make an API server ask it."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from registry_pipelines.cli import main
from tests.answers import answered
from tests.doubles.api_server import ApiServer
from tests.doubles.certificates import make_certificates
from tests.needs import needed_module
from tests.patience import patient
from tests.ports import free_ports
from tests.promote.admission.workload_objects import check_object, pod

CONFIG = """
registries:
  here: {{kind: embedded, port: {0}}}
images:
  app: {{registry: here, repository: team/app}}
signing: {{generate: true}}
admission:
  host: 127.0.0.1
  port: {1}
  tls_cert: tls/server.pem
  tls_key: tls/server.key
  ca_file: tls/ca.pem
{2}"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_certificates(tmp_path / "tls")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(folder: Path, *lines: str) -> None:
    ports = free_ports(2)
    more = "".join(f"  {line}\n" for line in lines)
    (folder / "registry-pipelines.yaml").write_text(CONFIG.format(*ports, more))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_objects_are_what_an_api_server_takes(folder: Path) -> None:
    configure(folder, "mutate: [digest]", "exempt_namespaces: [kube-system, monitoring]", "timeout: 7s")
    result = run("admission", "write", "webhook", "out", "--json")
    assert result.exit_code == 0, result.output
    files = [Path(each) for each in answered(result.stdout)["files"]]
    assert {each.name for each in files} == {each.name for each in (folder / "out").iterdir()}
    objects = {each["kind"]: each for each in (yaml.safe_load(path.read_text()) for path in files)}
    assert set(objects) == {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}
    for content in objects.values():
        check_object(content)
        [webhook] = content["webhooks"]
        assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == (folder / "tls" / "ca.pem").read_bytes()
        assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Fail", 7)
        [names] = webhook["namespaceSelector"]["matchExpressions"]
        assert names["values"] == ["kube-system", "monitoring", "registry-pipelines"]
    rules = objects["ValidatingWebhookConfiguration"]["webhooks"][0]["rules"]
    asked = {resource for rule in rules for resource in rule["resources"]}
    assert {"pods", "pods/ephemeralcontainers", "deployments", "cronjobs", "podtemplates"} <= asked
    assert all(rule["operations"] == ["CREATE", "UPDATE"] for rule in rules)
    [rule] = objects["MutatingWebhookConfiguration"]["webhooks"][0]["rules"]
    assert rule["resources"] == ["pods", "pods/ephemeralcontainers"]


def test_a_webhook_outside_of_the_cluster_has_an_address(folder: Path) -> None:
    configure(folder, "url: 'https://gate.example.com:8443/'", "exempt_namespaces: []")
    assert run("admission", "write", "webhook", "out").exit_code == 0
    content = yaml.safe_load((folder / "out" / "validatingwebhookconfiguration.yaml").read_text())
    check_object(content)
    [webhook] = content["webhooks"]
    assert webhook["clientConfig"]["url"] == "https://gate.example.com:8443/validate"
    assert "namespaceSelector" not in webhook
    assert not (folder / "out" / "mutatingwebhookconfiguration.yaml").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["mutate: [replica]"], "`replica` takes the first of `nearest`"),
        (["timeout: 31s"], "2 to 30 whole seconds"),
        (["timeout: 2500ms"], "2 to 30 whole seconds"),
        (["url: 'http://gate.example.com'"], "https://host:port"),
        (["url: 'https://user:pw@gate.example.com'"], "https://host:port"),
        (["approved: [{images: 'https://quay.io', reason: x}]"], "write registry.example.com"),
        (["approved: [{images: quay.io/*, reason: x}]"], "write registry.example.com"),
        (["approved: [{images: quay.io/, reason: x}]"], "write registry.example.com"),
        (["approved: [{images: quay.io}]"], "reason"),
        (["channel: prd"], "did you mean `prod`?"),
        (["service: admission"], "write namespace/name"),
        (["fail_policy: Fail"], "did you mean `failure_policy`?"),
        (["nearest: [eu]"], "unknown target `eu`"),
    ],
)
def test_mistakes_are_said(folder: Path, lines: list[str], message: str) -> None:
    configure(folder, *lines)
    result = run("config", "check")
    assert result.exit_code == 8 and message in result.output


def test_a_webhook_without_a_certificate_says_what_to_name(folder: Path) -> None:
    configure(folder)
    text = (folder / "registry-pipelines.yaml").read_text()
    for name in ("tls_cert", "tls_key", "ca_file"):
        text = "".join(line for line in text.splitlines(keepends=True) if name not in line)
    (folder / "registry-pipelines.yaml").write_text(text)
    assert "Name PEM files in admission.tls_cert" in run("serve-admission").output
    assert "Name a PEM file in admission.ca_file" in run("admission", "write", "webhook", "out").output
    assert not (folder / "out").exists()


def test_a_webhook_names_the_file_that_is_not_there(folder: Path) -> None:
    configure(folder)
    (folder / "tls" / "server.key").unlink()
    said = run("serve-admission").output
    assert "server.key" in said and "the file is not there" in said and "server.pem" not in said


def test_the_process_answers_tells_and_ends(folder: Path) -> None:
    configure(folder)
    command = [sys.executable, "-c", "from registry_pipelines.cli import main; main()", "serve-admission"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        url = process.stdout.readline().split()[0]
        api = ApiServer(int(url.rpartition(":")[2]), (folder / "tls" / "ca.pem").read_bytes())
        made = api.create(pod("nginx:1.29\nrefused everything"))
        assert not made.allowed
        api.close()
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read()
        assert process.wait(patient(30)) == 0
    [line] = [each for each in said.splitlines() if "refused" in each]
    assert "refused CREATE Pod apps/: container 'c0': 'nginx:1.29\\nrefused everything' [no-reference]" in line


def test_objects_are_checked_without_a_cluster(folder: Path) -> None:
    needed_module("regopy", "admission")
    configure(folder, "approved: [{images: registry.k8s.io, reason: the cluster's own}]")
    assert run("admission", "write", "rego", "out").exit_code == 0
    good, bad = pod("registry.k8s.io/pause:3.10"), pod("nginx:1.29", where="initContainers")
    (folder / "good.json").write_text(json.dumps(good))
    (folder / "all.yaml").write_text(yaml.safe_dump_all([good, None, {"kind": "List", "items": [bad]}]))
    passed = run("admission", "check", "out", "good.json", "--json")
    told = answered(passed.stdout)
    assert (passed.exit_code, told["checked"], told["refused"]) == (0, 1, [])
    refused = run("admission", "check", "out", "good.json", "all.yaml")
    assert refused.exit_code == 3
    assert "all.yaml: Pod/it: initContainers c0: nginx:1.29 [not-approved]" in refused.stdout
    assert "3 checked, 1 may not start" in refused.stderr
    for text, message in ((":\n  - [", "no YAML"), ("[1]", "no `kind`"), ("a: b", "no `kind`")):
        (folder / "bad.yaml").write_text(text)
        result = run("admission", "check", "out", "bad.yaml")
        assert result.exit_code == 8 and message in result.output
    (folder / "empty").mkdir()
    assert "admission write rego" in run("admission", "check", "empty", "good.json").output
