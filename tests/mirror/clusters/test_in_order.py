"""Several registries that have the same images, in one file: in which order a program asks which place."""

from __future__ import annotations

import json
import tomllib

import yaml
from hypothesis import given
from hypothesis import strategies as st

from registry_pipelines.mirror.clusters.forms import write_in_order
from registry_pipelines.mirror.clusters.model import Endpoint, Placed, Route
from registry_pipelines.mirror.model import CLUSTER_FORMS, ClusterForm
from tests.mirror.clusters.test_forms import NAMES, rewritten

FIRST, SECOND = Endpoint("us.example.com", needs_login=True), Endpoint("eu.example.com:5000", plain_http=True)
APP, HUB = Route("us.example.com", "team/app", "team/app"), Route("docker.io", "library/app", "library/app")


def asked(form: ClusterForm, files: dict[str, bytes], name: str) -> list[str]:
    """The places a program asks for an image, in its order, as ``host/repository``."""
    host, _, repository = name.partition("/")
    text = {path: content.decode() for path, content in files.items()}
    if form == "hosts-toml":
        urls = list(tomllib.loads(text[f"{host}/hosts.toml"])["host"])
        return [f"{url.partition('://')[2].replace('/v2', '', 1)}/{repository}" for url in urls]
    if form == "registries-yaml":
        content = yaml.safe_load(text["registries.yaml"])
        path = rewritten(content, name)
        endpoints = [each.partition("://")[2] for each in content["mirrors"][host]["endpoint"]]
        return [f"{each.replace('/v2', '', 1)}/{path}" for each in endpoints]
    if form in ("idms", "itms"):
        [rows] = yaml.safe_load(next(iter(text.values())))["spec"].values()
        return [place for row in rows if row["source"] == name for place in row["mirrors"]]
    if form == "registries-conf":
        rows = tomllib.loads(next(iter(text.values())))["registry"]
        [row] = [row for row in rows if row["prefix"] == name]
        return [*(each["location"] for each in row.get("mirror", ())), row["location"]]
    mirrors = json.loads(text["daemon.json"])["registry-mirrors"]
    return [f"{each.partition('://')[2]}/{repository}" for each in mirrors]


def test_the_first_registry_is_asked_first_in_every_form() -> None:
    placed = [
        Placed(FIRST, [APP], ("us.example.com",), dial_s=2),
        Placed(SECOND, [Route(APP.host, APP.repository, "replica/team/app")]),
    ]
    for order in (placed, placed[::-1]):
        want = [f"{each.endpoint.host}/{each.routes[0].path}" for each in order]
        for form in CLUSTER_FORMS:
            written = write_in_order(form, "prod", order)
            if form == "docker":
                assert not written.files and any("no image of docker.io" in each for each in written.wrong)
            else:
                assert asked(form, dict(written.files), APP.name) == want, form
    hosts = write_in_order("hosts-toml", "prod", placed)
    # Who is asked last has whatever time it takes: there is nobody else.
    [content] = [tomllib.loads(raw.decode()) for raw in hosts.files.values()]
    assert [each.get("dial_timeout") for each in content["host"].values()] == ["2s", None]
    assert "dial_timeout" not in content
    assert any(each.startswith("No account is in these files; us.example.com") for each in hosts.notes)
    assert any("us.example.com must take it, or pods bring none" in each for each in hosts.notes)
    assert not any("brings with a pull" in each for each in write_in_order("hosts-toml", "prod", placed[:1]).notes)
    conf = tomllib.loads(next(iter(write_in_order("registries-conf", "prod", placed).files.values())).decode())
    [row] = conf["registry"]
    assert row["insecure"] is True and "insecure" not in row["mirror"][0]


def test_docker_asks_mirrors_of_docker_hub_in_order() -> None:
    plain = [Placed(Endpoint("us.example.com"), [HUB]), Placed(SECOND, [HUB])]
    written = write_in_order("docker", "prod", plain)
    assert json.loads(written.files["daemon.json"]) == {
        "registry-mirrors": ["https://us.example.com", "http://eu.example.com:5000"],
        "insecure-registries": ["eu.example.com:5000"],
    }
    assert any("shows it to us.example.com and eu.example.com:5000" in each for each in written.notes)
    elsewhere = [plain[0], Placed(SECOND, [Route("docker.io", "library/app", "replica/library/app")])]
    assert "asks a mirror for library/app alone" in write_in_order("docker", "prod", elsewhere).wrong[0]


def test_each_registry_has_its_own_authority() -> None:
    endpoints = [Endpoint(f"{name}.example.com", certificates=name.encode(), ca_file=f"ca-{name}.crt") for name in "ab"]
    placed = [Placed(each, [HUB]) for each in endpoints]
    files = write_in_order("hosts-toml", "prod", placed).files
    assert files["docker.io/ca-a.crt"] == b"a" and files["docker.io/ca-b.crt"] == b"b"
    hosts = tomllib.loads(files["docker.io/hosts.toml"].decode())
    assert [each["ca"] for each in hosts["host"].values()] == ["ca-a.crt", "ca-b.crt"] and hosts["ca"] == "ca-b.crt"
    content = yaml.safe_load(write_in_order("registries-yaml", "prod", placed).files["registries.yaml"])
    assert content["configs"]["b.example.com"]["tls"]["ca_file"].endswith("/ca-b.crt")
    conf = write_in_order("registries-conf", "prod", placed).files
    assert conf["certs.d/a.example.com/ca.crt"] == b"a" and conf["certs.d/b.example.com/ca.crt"] == b"b"
    maps = yaml.safe_load(write_in_order("idms", "prod", placed).files["registry-pipelines-ca.yaml"])
    assert maps["data"] == {"a.example.com": "a", "b.example.com": "b"}


@st.composite
def _placed(draw: st.DrawFn) -> list[Placed]:
    """The same images at two registries: below something, or called otherwise."""
    names = draw(st.lists(st.tuples(st.sampled_from(["docker.io", "us.example.com"]), NAMES), min_size=1, max_size=4))
    found = []
    for endpoint in (Endpoint("us.example.com"), SECOND):
        prefix = draw(st.sampled_from(["", "replica", "a/b"]))
        paths = [draw(st.just("/".join(filter(None, (prefix, name)))) | NAMES) for _, name in names]
        routes = {(host, name): Route(host, name, path) for (host, name), path in zip(names, paths, strict=True)}
        found.append(Placed(endpoint, list(routes.values())))
    return found


@given(_placed(), st.sampled_from(list(CLUSTER_FORMS)))
def test_an_image_is_asked_for_at_its_own_place_of_each_registry_or_the_form_says_that_it_cannot(
    placed: list[Placed], form: ClusterForm
) -> None:
    written = write_in_order(form, "prod", placed)
    if written.wrong:
        assert form in ("hosts-toml", "docker", "registries-yaml") and not written.files
        return
    for host, repository in {(each.host, each.repository) for each in placed[0].routes}:
        if form == "docker" and host != "docker.io":
            continue
        found = asked(form, dict(written.files), f"{host}/{repository}")
        want = [
            f"{each.endpoint.host}/{route.path}"
            for each in placed
            for route in each.routes
            if (route.host, route.repository) == (host, repository)
        ]
        assert [place for place in found if place in want] == want
        if form not in ("hosts-toml",):  # which also asks below other prefixes of the host
            assert found == want
