"""Who may see and who may launch: nginx with the files of deploy/access and its passwords."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dagster_project.people import PERSON_TAG
from registry_pipelines.hardening.asking import Site
from registry_pipelines.hardening.webservers import examine_proxy, examine_webserver
from tests.dagster_project.fronts import LAUNCH, TAGS, Front, served

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

# What `htpasswd -nbB` of apache2-utils wrote, cost 5: jane.roe's password is `launches`, joe's `looks`.
PASSWORDS = """\
jane.roe:$2y$05$VYOX.WjiP2Iv1W2L3zlreO3dKQ8H19wXvxRIpSKov6ZclNGzE/3fy
joe:$2y$05$QzKELCJwxHFq0g.LmrxRzOK36v/x5awgu6z6lZY4NH8ipcDmC61ci
"""


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    def begin(conf: Path, _port: int) -> list[list[str]]:
        (conf / "passwords").write_text(PASSWORDS)
        (conf / "passwords").chmod(0o644)
        return []

    with served(tmp_path_factory.mktemp("access"), "login-password.conf", begin=begin) as found:
        yield found


def ask(front: Front, query: str, login: str = "", **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and data of a question through the proxy."""
    if login:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    return front.ask(query, **headers)


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
    said = {"Content-Type": "application/json"}
    reports = [
        urllib.request.Request(
            f"{front.url}/report_asset_materialization/verdict",
            b"{}",
            {**said, "Authorization": f"Basic {base64.b64encode(login).decode()}"},
        )
        for login in (b"joe:looks", b"jane.roe:launches")
    ]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(reports[0], context=front.context)
    with refused.value as told:
        assert told.code == 401 and b"Not authorized to report" in told.read()
    with urllib.request.urlopen(reports[1], context=front.context) as taken:
        assert taken.status == 200


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
