"""nginx with the files of deploy/access before two real webservers of Dagster, which have one harmless job."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dagster_project.people import PERSON_TAG
from tests.doubles.certificates import Certificates, make_certificates
from tests.needs import missing
from tests.patience import patient
from tests.ports import free_ports

ACCESS = Path(__file__).parents[2] / "deploy" / "access"
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
LAUNCH = """mutation { launchRun(executionParams: {selector: {repositoryLocationName: "harmless",
  repositoryName: "__repository__", jobName: "harmless"}, runConfigData: {}, executionMetadata: {tags: [
  {key: "PERSON", value: "boss@example.com"}]}}) { __typename ... on LaunchRunSuccess { run { runId } }
  ... on UnauthorizedError { message } } }""".replace("PERSON", PERSON_TAG)
TAGS = '{ runOrError(runId: "RUN") { ... on Run { tags { key value } } } }'
_LOADED = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"


class Front(NamedTuple):
    """What runs. url: of the proxy. webservers: the launching one, the reading one."""

    url: str
    webservers: tuple[str, str]
    made: Certificates

    @property
    def context(self) -> ssl.SSLContext:
        """Believes the proxy's certificate."""
        return ssl.create_default_context(cafile=self.made.ca)

    def ask(
        self, query: str, *, url: str = "", opener: Callable[..., Any] | None = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and data of a question, through the proxy unless told. opener: as ``urllib.request.urlopen``."""
        said = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        request = urllib.request.Request(f"{url or self.url}/graphql", json.dumps({"query": query}).encode(), said)
        try:
            if opener:
                answer = opener(request, timeout=patient(30))
            else:
                answer = urllib.request.urlopen(request, timeout=patient(30), context=self.context)
            with answer:
                return answer.status, json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {}

    def loaded(self) -> bool:
        """Whether both webservers have the job, and the proxy asks for a login."""
        try:
            told = [self.ask(_LOADED, url=url) for url in self.webservers]
            return all("RepositoryLocation" in json.dumps(data) for _, data in told) and self.ask(_LOADED)[0] == 401
        except OSError:
            return False


@contextmanager
def served(
    folder: Path,
    login: str,
    *,
    here: Callable[[int], Mapping[str, str]] = lambda port: {},
    begin: Callable[[Path, int], list[list[str]]] = lambda conf, port: [],
) -> Iterator[Front]:
    """login: which of the files is ``login.conf``. here: what stands in the files, and what it is on this machine.
    begin: writes more files, and says what else to start. Both know the proxy's port."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or missing("nginx is not installed")
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
    shutil.copy(conf / login, conf / "login.conf")
    conf.chmod(0o755)
    written = {
        "server webserver:3000": f"server 127.0.0.1:{launching}",
        "server webserver-readers:3000": f"server 127.0.0.1:{reading}",
        "listen 8443 ssl": f"listen 127.0.0.1:{proxy} ssl",
        **here(proxy),
    }
    left = set(written)
    for name in ("nginx.conf", "login.conf", "oauth2-proxy.cfg", "launching-groups.map"):
        text = (conf / name).read_text()
        for there, ours in written.items():
            left -= {there} if there in text else set()
            text = text.replace(there, ours)
        (conf / name).write_text(text)
    assert not left, left
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    dagster = ["env", "--default-signal=INT,TERM,QUIT", sys.executable, "-m"]
    pages = [*dagster, "dagster_webserver", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p"]
    # Two webservers that make the tables at once make one of them twice, and end.
    made_once = [sys.executable, "-c", "import dagster; dagster.DagsterInstance.get().dispose()"]
    subprocess.run(made_once, env=environment, check=True, capture_output=True)
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        running = []
        for command in (
            *begin(conf, proxy),
            [*dagster, "dagster", "api", "grpc", "-f", "harmless.py", "-h", "127.0.0.1", "-p", str(code)],
            [*pages, str(launching)],
            [*pages, str(reading), "--read-only"],
            [nginx, "-p", str(conf), "-c", "nginx.conf", "-g", f"daemon off;{USER}"],
        ):
            process = stack.enter_context(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
            stack.callback(process.terminate)
            running.append(process)
        found = Front(
            f"https://localhost:{proxy}", (f"http://127.0.0.1:{launching}", f"http://127.0.0.1:{reading}"), made
        )
        until = time.monotonic() + patient(60)
        while not found.loaded():
            over = time.monotonic() > until or any(each.poll() is not None for each in running)
            assert not over, (folder / "log").read_text()[-5000:]
            time.sleep(0.3)
        yield found
