"""Package indexes of the clouds: where they are, what they know us by, and nothing of it where it does not belong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.build.packages.index import HttpIndex
from registry_pipelines.build.packages.model import CodeArtifactIndex, GarIndex, PipIndex
from registry_pipelines.build.packages.opening import index_of_pip
from registry_pipelines.errors import Forbidden
from tests.build.packages.sources import Asking
from tests.build.wheels import make_wheel
from tests.doubles.aws.codeartifact import CodeArtifact
from tests.doubles.package_index import PackageIndex
from tests.needs import needed_module

TOKEN = "a-token-of-twelve-hours"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed_module("boto3", "aws")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with PackageIndex(user=f"aws:{TOKEN}") as index:
        yield index


def codeartifact(double: CodeArtifact) -> CodeArtifactIndex:
    return CodeArtifactIndex(
        name="ours",
        kind="codeartifact",
        domain="acme",
        owner="111122223333",
        region="eu-west-1",
        repository="python",
        endpoint=double.url,
    )


@pytest.mark.usefixtures("aws")
def test_codeartifact(ask: Asking, index: PackageIndex, tmp_path: Path) -> None:
    """One question for the address and one for the token, which goes to the index as a password."""
    index.add(make_wheel(tmp_path / "w", "leaf", "1.0"))
    with CodeArtifact(f"{index.origin}/", TOKEN) as double:
        assert ask.one("leaf", codeartifact(double))[1]["index"] == "ours"
        assert double.asked == [
            (
                "/v1/repository/endpoint",
                {"domain": "acme", "domain-owner": "111122223333", "repository": "python", "format": "pypi"},
            ),
            ("/v1/authorization-token", {"domain": "acme", "domain-owner": "111122223333"}),
        ]
        sources = ask.sources(codeartifact(double))
        [opened] = sources.indexes
        assert isinstance(opened, HttpIndex) and opened.uploads and opened.uploads.base == f"{index.origin}/"
        double.lives_s, double.asked[:] = -1.0, []
        assert [sources.project(name) is not None for name in ("leaf", "other")] == [True, False]
        assert [path for path, _ in double.asked] == ["/v1/authorization-token"] * 2  # each one had ended
        double.denied = True
        with pytest.raises(Forbidden, match="codeartifact:GetRepositoryEndpoint"):
            ask.sources(codeartifact(double))


def test_artifact_registry(ask: Asking, tmp_path: Path) -> None:
    """A token of the service account, renewed when it is refused."""
    needed_module("google.cloud.artifactregistry_v1", "google")
    from tests.doubles.google import GoogleCloud
    from tests.doubles.google.accounts import service_account_file

    index = GarIndex(name="ours", kind="gar", project="ml-prod", location="europe-west1", repository="python")
    assert index.base == "https://europe-west1-python.pkg.dev/ml-prod/python"
    assert (index.public, PipIndex(name="p", kind="pip").public) == (False, True)
    with GoogleCloud(tmp_path / "google") as google, PackageIndex() as double:
        key = service_account_file(google.world, tmp_path / "key.json", google.endpoint)
        index = GarIndex(
            name="ours",
            kind="gar",
            project="ml-prod",
            location="europe-west1",
            repository="python",
            endpoint=double.origin,
            credentials=key,
        )
        sources = ask.sources(index)
        assert sources.project("leaf") is None
        [asked] = double.asked
        assert asked.path == "/ml-prod/python/simple/leaf/" and asked.authorization.startswith("Basic ")
        double.user = "somebody:else"
        with pytest.raises(Exception, match="401"):
            sources.project("other")
        tokens = [one.authorization for one in double.asked[1:]]
        assert len(set(tokens)) == 2, "the second one is new"


@pytest.mark.parametrize(
    ("said", "url", "user"),
    [
        ("https://robot:w%40rd@index.example/simple", "https://index.example/simple/", ("robot", "w@rd")),
    ],
)
def test_the_index_of_pip(said: str, url: str, user: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", said)
    found, own = index_of_pip()
    assert (found, (own.username, own.password)) == (url, user)


def test_pip_without_settings_has_an_index_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    url, own = index_of_pip()
    assert url.startswith("https://") and url.endswith("/simple/") and own.anonymous
