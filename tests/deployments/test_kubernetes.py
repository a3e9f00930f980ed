"""The files for Kubernetes, held against the API's own models, and against a server that takes the jobs of runs."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import RunLauncher
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from tests.deployments.objects import KUBERNETES, ROOT, not_in_the_api, pods, too_much, written
from tests.needs import needed_module

IMAGE = "registry.example.com/platform/registry-pipelines@sha256:" + "1" * 64


def name_of(each: dict[str, Any]) -> str:
    return f"{each['kind']}-{each['metadata']['name']}"


@pytest.mark.parametrize("each", written(), ids=name_of)
def test_every_object_is_one_of_the_api(each: dict[str, Any]) -> None:
    assert not_in_the_api(each) == []


def test_a_field_that_is_misspelt_would_be_found() -> None:
    [code] = [copy.deepcopy(each) for each in written() if name_of(each) == "Deployment-code"]
    code["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    assert not_in_the_api(code) == [".spec.template.spec.containers[0].livenesProbe"]


@pytest.mark.parametrize(("name", "pod"), list(pods(written())), ids=lambda each: each if isinstance(each, str) else "")
def test_no_pod_may_do_more_than_it_must(name: str, pod: dict[str, Any]) -> None:
    assert too_much(pod) == []
    tokens = pod["spec"]["serviceAccountName"] == "registry-pipelines-launcher"
    assert pod["spec"].get("automountServiceAccountToken", True) is tokens, name


def test_one_pod_brings_the_tables_to_a_version_and_the_webservers_wait_for_it() -> None:
    """Which pods start first nobody says. The program that waits is tried in tests/dagster_project/test_tables.py."""
    first = {
        name: [each["command"] for each in pod["spec"].get("initContainers", ()) if each["name"] == "tables"]
        for name, pod in pods(written())
    }
    python = ["/usr/local/bin/python", "-P", "-m"]
    assert first["daemon"] == [[*python, "dagster", "instance", "migrate"]]
    assert first["webserver"] == [[*python, "dagster_project.tables"]]


def test_the_launcher_may_do_what_dagster_asks_of_the_api() -> None:
    """To end a run dagster-k8s deletes its Job and then, by name, its pod, which would go on. tests/kubernetes tries it
    with a real API server."""
    [role] = [each for each in written() if name_of(each) == "Role-registry-pipelines-launcher"]
    rights = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert {("batch", "jobs", verb) for verb in ("create", "list", "delete")} <= rights
    assert {("", "pods", verb) for verb in ("get", "list", "delete")} <= rights
    assert {("batch", "jobs/status", "get"), ("", "pods/log", "get"), ("", "events", "list")} <= rights
    assert not [each for each in rights if each[1] in ("secrets", "pods/exec", "*") or each[2] == "*"]


def test_what_restarts_and_what_is_asked_fits_together() -> None:
    """Selectors find the pods that they are for, and every mount has its volume."""
    objects = written()
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(objects)}
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            wanted = each["spec"]["selector"]["matchLabels"].items()
            assert wanted <= labels[each["metadata"]["name"]].items()
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            selector = each["spec"]["selector"]
            found = [
                name for name, has in labels.items() if selector.get("matchLabels", selector).items() <= has.items()
            ]
            assert found == [each["metadata"]["name"]]
    for _, pod in pods(objects):
        volumes = {each["name"] for each in pod["spec"].get("volumes", ())} | {"content"}
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            assert {each["name"] for each in container["volumeMounts"]} <= volumes


def test_whatever_asks_postgres_sees_what_it_is_known_by() -> None:
    """Its certificate is a file beside the configuration; also for who makes the tables."""
    for name, pod in pods(written()):
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            if {"secretRef": {"name": "registry-pipelines-secrets"}} in container.get("envFrom", ()):
                assert "/work" in {each["mountPath"] for each in container["volumeMounts"]}, (name, container["name"])


def test_the_settings_of_dagster_are_those_of_every_deployment_but_for_who_runs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, KUBERNETES / "write", tmp_path], check=True)
    for name in ("dagster.yaml", "workspace.yaml"):
        assert (KUBERNETES / "base" / name).read_bytes() == (tmp_path / name).read_bytes(), (
            "run deploy/kubernetes/write"
        )
    ours = yaml.safe_load((ROOT / "deploy" / "dagster" / "dagster.yaml").read_text())
    theirs = yaml.safe_load((tmp_path / "dagster.yaml").read_text())
    assert ours.pop("run_launcher") != theirs.pop("run_launcher")
    assert ours == theirs


@pytest.mark.peer("kubectl")
def test_kustomize_makes_one_deployment_of_it(peer: Callable[[str], str]) -> None:
    """With the image by digest in every container, and in what runs start from."""
    done = subprocess.run([peer("kubectl"), "kustomize", KUBERNETES / "example"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    objects = list(yaml.safe_load_all(done.stdout))
    named = {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"}
    assert named == {"registry-pipelines"}
    maps = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    assert maps["registry-pipelines-environment"]["REGISTRY_PIPELINES_STORE"].startswith("s3://")
    for _, pod in pods(objects):
        for container in [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]:
            assert container["image"].endswith("@sha256:" + "0" * 64)
            told = {each["name"]: each.get("value") for each in container.get("env", ())}
            assert told.get("DAGSTER_CURRENT_IMAGE", container["image"]) == container["image"]
        for volume in pod["spec"]["volumes"]:
            assert volume.get("configMap", {}).get("name", "registry-pipelines-dagster") in maps


@pytest.mark.peer("kubectl")
@pytest.mark.parametrize(("component", "address"), [("gke", "169.254.169.252/32"), ("eks", "169.254.170.23/32")])
def test_who_gives_out_the_identities_of_pods_may_be_asked_where_that_is_wanted(
    peer: Callable[[str], str], tmp_path: Path, component: str, address: str
) -> None:
    """Beside 443 nothing outside may: these two answer on other ports."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    file = tmp_path / "kubernetes" / "example" / "kustomization.yaml"

    def asked() -> set[str]:
        done = subprocess.run([peer("kubectl"), "kustomize", file.parent], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        objects = [each["spec"] for each in yaml.safe_load_all(done.stdout) if each["kind"] == "NetworkPolicy"]
        places = [to for each in objects for rule in each.get("egress", ()) for to in rule.get("to", ())]
        return {each["ipBlock"]["cidr"] for each in places if "ipBlock" in each}

    assert address not in asked()
    file.write_text(f"{file.read_text()}components: [../identity-{component}]\n")
    assert address in asked()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A server that takes objects, as a cluster's does: the kubeconfig of it, and what it took."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append(json.loads(body))
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        kubeconfig = tmp_path / "kubeconfig"
        cluster = {"name": "it", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        context = {"name": "it", "context": {"cluster": "it", "user": "it"}}
        users = [{"name": "it", "user": {}}]
        whole = {"clusters": [cluster], "contexts": [context], "users": users, "current-context": "it"}
        kubeconfig.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **whole}))
        yield kubeconfig, taken
        server.shutdown()
        thread.join()


@dg.job
def nothing() -> None:
    """A job to launch."""


@contextmanager
def launched(home: Path, kubeconfig: Path, **tags: str) -> Iterator[tuple[RunLauncher, dg.DagsterRun]]:
    """A run is launched as ``deploy/kubernetes`` says, but for the database; by which launcher."""
    settings = yaml.safe_load((KUBERNETES / "base" / "dagster.yaml").read_text())
    config = settings["run_launcher"]["config"]
    config.update(load_incluster_config=False, kubeconfig_file=str(kubeconfig))
    home.mkdir()
    kept = {name: settings[name] for name in ("run_launcher", "run_monitoring", "telemetry")}
    (home / "dagster.yaml").write_text(yaml.safe_dump(kept))
    pointer = ModuleCodePointer("dagster_project.definitions", "defs")
    repository = RepositoryPythonOrigin(sys.executable, pointer, IMAGE, ["dagster"])
    with dg.DagsterInstance.from_config(str(home)) as instance:
        origin = JobPythonOrigin("nothing", repository)
        run = instance.create_run_for_job(nothing, tags=tags, job_code_origin=origin)
        instance.run_launcher.launch_run(dg_context(run))
        yield instance.run_launcher, run


def dg_context(run: dg.DagsterRun) -> Any:
    """What Dagster's queue gives a launcher."""
    from dagster._core.launcher import LaunchRunContext

    return LaunchRunContext(dagster_run=run, workspace=None)


def test_a_run_is_a_job_that_may_do_no_more_than_it_must(
    api: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed_module("dagster_k8s", "cluster")
    monkeypatch.setenv("DAGSTER_NAMESPACE", "registry-pipelines")
    kubeconfig, taken = api
    with launched(tmp_path / "home", kubeconfig):
        [job] = taken
    assert not_in_the_api(job) == []
    [(_, pod)] = pods([job])
    assert too_much(pod) == []
    assert not pod["spec"]["automountServiceAccountToken"]
    [container] = pod["spec"]["containers"]
    assert container["image"] == IMAGE
    # The image's own entrypoint is another program, and Dagster gives arguments alone.
    words = [*container["command"], *container["args"]]
    assert words[:6] == ["/usr/local/bin/python", "-P", "-m", "dagster", "api", "execute_run"]
    assert "postgres" not in json.dumps(job).lower()
    selected = [
        each for each in written() if each["metadata"]["name"] == "registries" and each["kind"] == "NetworkPolicy"
    ]
    [rule] = selected[0]["spec"]["podSelector"]["matchExpressions"]
    assert pod["metadata"]["labels"][rule["key"]] in rule["values"]
    maps = {each["configMap"]["name"]: each["name"] for each in pod["spec"]["volumes"] if "configMap" in each}
    assert maps["registry-pipelines-dagster"] in {each["name"] for each in container["volumeMounts"]}


@pytest.mark.parametrize(
    "asked",
    [
        {"container_config": {"security_context": {"privileged": True}}},
        {"pod_spec_config": {"host_network": True}},
        {"pod_spec_config": {"service_account_name": "registry-pipelines-launcher"}},
        {"container_config": {"command": ["/bin/sh"]}},
    ],
)
def test_who_launches_a_run_cannot_ask_for_another_pod(
    api: tuple[Path, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """Tags are what anybody may write who may launch."""
    needed_module("dagster_k8s", "cluster")
    monkeypatch.setenv("DAGSTER_NAMESPACE", "registry-pipelines")
    kubeconfig, taken = api
    with pytest.raises(Exception, match="violated the allowed list"):
        launched(tmp_path / "home", kubeconfig, **{"dagster-k8s/config": json.dumps(asked)}).__enter__()
    assert taken == []
