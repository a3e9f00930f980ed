"""Who may see and who may launch: nginx with the files of deploy/access before two real webservers of Dagster."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dagster_project.people import PERSON_TAG
from registry_pipelines.hardening.asking import Site
from registry_pipelines.hardening.webservers import examine_proxy, examine_webserver
from tests.chain.fleet import free_ports
from tests.doubles.certificates import Certificates, make_certificates
from tests.needs import missing
from tests.patience import patient

ACCESS = Path(__file__).parents[2] / "deploy" / "access"
pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

CODE = """
import dagster as dg

@dg.op
def nothing() -> None: ...

@dg.job
def harmless() -> None:
    nothing()

defs = dg.Definitions(jobs=[harmless])
"""
HOME = """
run_coordinator:
  module: dagster_project.people
  class: NamedByProxy
  config: {user_header: X-Forwarded-User}
telemetry: {enabled: false}
"""
USER = " user root;" if os.geteuid() == 0 else ""
"""Else its workers are another user, who does not come into pytest's folders."""
# What `htpasswd -nbB` of apache2-utils wrote, cost 5: jane.roe's password is `launches`, joe's `looks`.
PASSWORDS = """\
jane.roe:$2y$05$VYOX.WjiP2Iv1W2L3zlreO3dKQ8H19wXvxRIpSKov6ZclNGzE/3fy
joe:$2y$05$QzKELCJwxHFq0g.LmrxRzOK36v/x5awgu6z6lZY4NH8ipcDmC61ci
"""
LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "harmless",
  repositoryName: "__repository__", jobName: "harmless"}, runConfigData: {}, executionMetadata: {tags: [
  {key: "PERSON", value: "boss@example.com"}]}}) { __typename ... on LaunchRunSuccess { run { runId } }
  ... on UnauthorizedError { message } } }""".replace("PERSON", PERSON_TAG)
TAGS = '{ runOrError(runId: "RUN") { ... on Run { tags { key value } } } }'


class Front(NamedTuple):
    """What runs. url: of the proxy. webservers: the launching one, the reading one."""

    url: str
    webservers: tuple[str, str]
    made: Certificates


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or missing("nginx is not installed")
    folder = tmp_path_factory.mktemp("access")
    proxy, launching, reading, code = free_ports(4)
    (home := folder / "home").mkdir()
    (home / "dagster.yaml").write_text(HOME)
    (folder / "harmless.py").write_text(CODE)
    (folder / "workspace.yaml").write_text(
        f"load_from: [{{grpc_server: {{host: 127.0.0.1, port: {code}, location_name: harmless}}}}]"
    )
    made = make_certificates(folder / "certificates")
    conf = folder / "nginx"
    shutil.copytree(ACCESS, conf)
    (conf / "temp").mkdir()
    shutil.copy(made.certificate, conf / "tls.crt")
    shutil.copy(made.key, conf / "tls.key")
    shutil.copy(conf / "login-password.conf", conf / "login.conf")
    (conf / "passwords").write_text(PASSWORDS)
    conf.chmod(0o755)
    (conf / "passwords").chmod(0o644)
    text = (conf / "nginx.conf").read_text()
    for written, here in (
        ("server webserver:3000", f"server 127.0.0.1:{launching}"),
        ("server webserver-readers:3000", f"server 127.0.0.1:{reading}"),
        ("listen 8443 ssl", f"listen 127.0.0.1:{proxy} ssl"),
    ):
        assert written in text
        text = text.replace(written, here)
    (conf / "nginx.conf").write_text(text)
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    dagster = ["env", "--default-signal=INT,TERM,QUIT", sys.executable, "-m"]
    served = [*dagster, "dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p"]
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for command in (
            [*dagster, "dagster", "api", "grpc", "-f", "harmless.py", "-h", "127.0.0.1", "-p", str(code)],
            [*served, str(launching)],
            [*served, str(reading), "--read-only"],
            [nginx, "-p", str(conf), "-c", "nginx.conf", "-g", f"daemon off;{USER}"],
        ):
            process = stack.enter_context(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
            stack.callback(process.terminate)
        found = Front(
            f"https://localhost:{proxy}", (f"http://127.0.0.1:{launching}", f"http://127.0.0.1:{reading}"), made
        )
        until = time.monotonic() + patient(60)
        while not (loaded(found, "jane.roe:launches") and loaded(found, "joe:looks")):
            assert time.monotonic() < until, (folder / "log").read_text()[-5000:]
            time.sleep(0.3)
        yield found


def ask(front: Front, query: str, login: str = "", *, url: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and data of a question, through the proxy unless told."""
    said = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    if login:
        said["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    request = urllib.request.Request(f"{url or front.url}/graphql", json.dumps({"query": query}).encode(), said)
    context = ssl.create_default_context(cafile=front.made.ca)
    try:
        with urllib.request.urlopen(request, timeout=patient(30), context=context) as answer:
            return answer.status, json.load(answer)["data"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}


def loaded(front: Front, login: str) -> bool:
    query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
    try:
        status, data = ask(front, query, login)
    except OSError:
        return False
    return status == 200 and "RepositoryLocation" in json.dumps(data)


def test_a_stranger_sees_nothing(front: Front) -> None:
    for login in ("", "jane.roe:guessed", "nobody:launches"):
        assert ask(front, "{ version }", login, X_Forwarded_User="jane.roe") == (401, {})


def test_who_may_launch_is_named_by_the_proxy_whatever_was_sent(front: Front) -> None:
    status, data = ask(front, LAUNCH, "jane.roe:launches", X_Forwarded_User="boss@example.com")
    assert (status, data["launchRun"]["__typename"]) == (200, "LaunchRunSuccess")
    _, found = ask(front, TAGS.replace("RUN", data["launchRun"]["run"]["runId"]), "joe:looks")
    tags = {each["key"]: each["value"] for each in found["runOrError"]["tags"]}
    assert tags[PERSON_TAG] == "jane.roe"


def test_who_may_look_changes_nothing(front: Front) -> None:
    status, data = ask(front, LAUNCH, "joe:looks")
    assert (status, data["launchRun"]["__typename"]) == (200, "UnauthorizedError")
    report = urllib.request.Request(
        f"{front.url}/report_asset_materialization/verdict", b"{}", {"Content-Type": "application/json"}
    )
    report.add_header("Authorization", f"Basic {base64.b64encode(b'joe:looks').decode()}")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(report, context=ssl.create_default_context(cafile=front.made.ca))
    refused.value.close()
    assert refused.value.code in (401, 403, 500)


def test_a_page_of_another_host_launches_nothing(front: Front) -> None:
    assert ask(front, LAUNCH, "jane.roe:launches", Origin="https://elsewhere.example") == (403, {})
    assert ask(front, LAUNCH, "jane.roe:launches", Origin="null") == (403, {})
    assert ask(front, "{ version }", "jane.roe:launches", Origin=front.url)[0] == 200


def test_the_rules_are_kept_through_the_proxy_and_broken_past_it(front: Front) -> None:
    reader = {"Authorization": f"Basic {base64.b64encode(b'joe:looks').decode()}"}
    found = examine_proxy(Site(front.url, front.made.ca), reader, person_header="X-Forwarded-User")
    assert {each.rule: each.verdict for each in found if each.verdict != "kept"} == {}
    past = {
        each.rule: each.verdict
        for each in examine_proxy(Site(front.webservers[0]), reader, person_header="X-Forwarded-User")
    }
    assert {rule for rule, verdict in past.items() if verdict == "broken"} == {
        "proxy-tls",
        "proxy-login",
        "proxy-frame",
        "readers-only-read",
        "proxy-origin",
    }
    assert [each.verdict for each in examine_webserver(Site(front.webservers[1]))] == ["broken"]
    assert next(iter(examine_proxy(Site(front.url), reader, person_header="X"))).verdict == "broken"
