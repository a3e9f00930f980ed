"""Who may see and who may launch by an identity provider: nginx and oauth2-proxy with the files of deploy/access."""

from __future__ import annotations

import base64
import http.cookiejar
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from dagster_project.people import PERSON_TAG
from registry_pipelines.hardening.asking import Site
from registry_pipelines.hardening.webservers import examine_proxy
from tests.conftest import find_peer
from tests.dagster_project.fronts import LAUNCH, TAGS, Front, served
from tests.doubles.identity import CLIENT, SECRET, IdentityProvider, Person
from tests.needs import missing
from tests.patience import patient
from tests.ports import free_ports

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

JANE = Person("jane.roe@example.com")
JOE = Person("joe@example.com")
ANN = Person("ann@example.com", ("staff", "pipelines-launchers"))


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, provider: IdentityProvider) -> Iterator[Front]:
    program = find_peer("oauth2-proxy") or missing("oauth2-proxy is not installed (.ci/build-go-peers builds it)")
    [login] = free_ports(1)
    secret = base64.urlsafe_b64encode(os.urandom(32)).decode()

    def begin(conf: Path, _port: int) -> list[list[str]]:
        secrets = {"CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET, "COOKIE_SECRET": secret}
        variables = [f"OAUTH2_PROXY_{name}={value}" for name, value in secrets.items()]
        return [["env", *variables, program, "--config", str(conf / "oauth2-proxy.cfg")]]

    def here(port: int) -> dict[str, str]:
        return {
            "http://oauth2-proxy:4180": f"http://127.0.0.1:{login}",
            '"0.0.0.0:4180"': f'"127.0.0.1:{login}"',
            "https://login.example.com/realms/company": provider.issuer,
            "https://pipelines.example.com:8443": f"https://localhost:{port}",
            "# ~(^|,)pipelines-launchers": "~(^|,)pipelines-launchers",
        }

    with served(tmp_path_factory.mktemp("oidc"), "login-oauth2-proxy.conf", here=here, begin=begin) as found:
        yield found


class Browser:
    """With cookies, which follows redirects as far as to the identity provider and back."""

    def __init__(self, front: Front) -> None:
        self.front, self.cookies = front, http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=front.context), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        """Status, address in the end, and page."""
        request = urllib.request.Request(f"{self.front.url}{path}", headers={"Accept": "text/html", **headers})
        try:
            with self._opener.open(request, timeout=patient(30)) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.url, error.read().decode()

    def ask(self, query: str, **headers: str) -> tuple[int, Any]:
        """Status and data of a question."""
        return self.front.ask(query, opener=self._opener.open, **headers)

    def header(self) -> str:
        """Its cookies, as it sends them."""
        return "; ".join(f"{each.name}={each.value}" for each in self.cookies if "csrf" not in each.name)


def logged_in(front: Front, provider: IdentityProvider, person: Person) -> Browser:
    provider.person, browser = person, Browser(front)
    status, address, page = browser.get("/runs?a=1&b=2")
    assert (status, address) == (200, f"{front.url}/runs?a=1&b=2") and "Dagster" in page
    return browser


def socket(front: Front, **headers: str) -> ClientConnection:
    address = front.url.replace("https:", "wss:") + "/graphql"
    return connect(
        address,
        ssl=front.context,
        additional_headers=headers,
        subprotocols=["graphql-ws"],  # type: ignore[list-item]
        open_timeout=patient(30),
        compression=None,
    )


def test_a_stranger_gets_no_page_no_answer_and_no_socket(front: Front) -> None:
    names = dict.fromkeys(("X-Forwarded-User", "X-Forwarded-Email", "X-Auth-Request-Email"), "jane.roe@example.com")
    names |= {"X-Auth-Request-Groups": "pipelines-launchers", "Authorization": "Basic amFuZS5yb2U6bGF1bmNoZXM="}
    names |= {"Cookie": "__Host-pipelines=guessed", "X-Forwarded-Uri": "/oauth2/auth", "X-Original-URI": "/ping"}
    for more in ({}, names):
        assert front.ask("{ version }", **{name.replace("-", "_"): text for name, text in more.items()}) == (401, {})
        with pytest.raises(InvalidStatus) as refused:
            socket(front, **more)
        assert refused.value.response.status_code == 401
        for path in ("/", "/runs", "/server_info", "/dagit_info", "/notebook", "/oauth2/../graphql?query={version}"):
            request = urllib.request.Request(front.url + path, headers=more)
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(request, context=front.context)
            with error.value:
                assert error.value.code == 401 and b"agster" not in error.value.read()


def test_a_browser_is_sent_to_log_in_and_comes_back_where_it_was(front: Front, provider: IdentityProvider) -> None:
    browser = logged_in(front, provider, JOE)
    kept = {each.name: each for each in browser.cookies if "csrf" not in each.name}
    assert set(kept) == {"__Host-pipelines"}
    assert all(each.secure and each.path == "/" and each.has_nonstandard_attr("HttpOnly") for each in browser.cookies)


@pytest.mark.parametrize("person", [Person("joe@elsewhere.example"), Person("joe@example.com", verified=False)])
def test_of_another_company_nobody_comes_in(front: Front, provider: IdentityProvider, person: Person) -> None:
    provider.person, browser = person, Browser(front)
    status, address, page = browser.get("/")
    assert status in (403, 500) and "/oauth2/callback" in address and "agster" not in page
    assert browser.ask("{ version }") == (401, {})


@pytest.mark.parametrize("person", [JANE, ANN], ids=["by name", "by group"])
def test_who_may_launch_is_named_by_the_provider(front: Front, provider: IdentityProvider, person: Person) -> None:
    browser = logged_in(front, provider, person)
    status, data = browser.ask(LAUNCH, X_Forwarded_User="boss@example.com", X_Auth_Request_Email="boss@example.com")
    assert (status, data["launchRun"]["__typename"]) == (200, "LaunchRunSuccess")
    _, found = browser.ask(TAGS.replace("RUN", data["launchRun"]["run"]["runId"]))
    assert {each["key"]: each["value"] for each in found["runOrError"]["tags"]}[PERSON_TAG] == person.email


@pytest.mark.parametrize(
    "groups", [(), ("staff",), ("not-pipelines-launchers", "pipelines-launchers-too")], ids=["none", "other", "alike"]
)
def test_who_may_look_changes_nothing(front: Front, provider: IdentityProvider, groups: tuple[str, ...]) -> None:
    browser = logged_in(front, provider, Person("joe@example.com", groups))
    status, data = browser.ask(LAUNCH, X_Auth_Request_Groups="pipelines-launchers")
    assert (status, data["launchRun"]["__typename"]) == (200, "UnauthorizedError")


def test_a_program_comes_with_a_token_of_the_provider(front: Front, provider: IdentityProvider) -> None:
    with IdentityProvider() as other:
        forged = other.id_token(ANN, issuer=provider.issuer)
    foreign = provider.id_token(Person("ann@elsewhere.example", ANN.groups))
    for token in ("guessed", forged, foreign, provider.id_token(ANN, audience="another")):
        assert front.ask("{ version }", Authorization=f"Bearer {token}")[0] in (401, 403)
    for person, kind in ((ANN, "LaunchRunSuccess"), (JOE, "UnauthorizedError")):
        status, data = front.ask(LAUNCH, Authorization=f"Bearer {provider.id_token(person)}")
        assert (status, data["launchRun"]["__typename"]) == (200, kind)


def test_the_log_of_a_run_comes_through_the_socket(front: Front, provider: IdentityProvider) -> None:
    """The old protocol of Apollo's subscriptions, as Dagster's pages speak it."""
    browser = logged_in(front, provider, JANE)
    run = browser.ask(LAUNCH)[1]["launchRun"]["run"]["runId"]
    query = f"""subscription {{ pipelineRunLogs(runId: "{run}", cursor: null) {{ __typename
        ... on PipelineRunLogsSubscriptionSuccess {{ messages {{ ... on MessageEvent {{ message }} }} }} }} }}"""
    with pytest.raises(InvalidStatus) as foreign:
        socket(front, Cookie=browser.header(), Origin="https://elsewhere.example")
    assert foreign.value.response.status_code == 403
    with socket(front, Cookie=browser.header(), Origin=front.url) as opened:
        opened.send(json.dumps({"type": "connection_init", "payload": {}}))
        opened.send(json.dumps({"type": "start", "id": "1", "payload": {"query": query}}))
        until = time.monotonic() + patient(30)
        while time.monotonic() < until:
            told = json.loads(opened.recv(timeout=patient(30)))
            if told["type"] == "data":
                break
        assert "PipelineRunLogsSubscriptionSuccess" in json.dumps(told), told


def test_a_login_is_good_whatever_is_in_its_tokens(front: Front, provider: IdentityProvider) -> None:
    """Tokens of many kilobytes and hundreds of groups, as large companies have them."""
    groups = [f"{number:08x}-{number * 7919:024x}" for number in range(300)]
    browser = logged_in(front, provider, Person("ann@example.com", [*groups, *ANN.groups], padding=20_000))
    status, data = browser.ask(LAUNCH)
    assert (status, data["launchRun"]["__typename"]) == (200, "LaunchRunSuccess")


def test_the_rules_are_kept_through_the_proxy(front: Front, provider: IdentityProvider) -> None:
    reader = {"Cookie": logged_in(front, provider, JOE).header()}
    found = examine_proxy(Site(front.url, front.made.ca), reader, person_header="X-Forwarded-User")
    assert {each.rule: each.verdict for each in found if each.verdict != "kept"} == {}


def test_who_logs_out_is_out(front: Front, provider: IdentityProvider) -> None:
    """Until the next page: the provider still knows the browser."""
    browser = logged_in(front, provider, JOE)
    status, address, _ = browser.get("/oauth2/sign_out?rd=https://elsewhere.example/", Accept="*/*")
    assert (status, urlsplit(address).netloc) == (401, urlsplit(front.url).netloc)
    assert browser.ask("{ version }") == (401, {})
