"""Every way to log in at Google, against token services that check what they are given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from registry_pipelines.errors import Forbidden, NotFound, Unauthorized, Unavailable
from registry_pipelines.registry.gar.access import GoogleAccess
from registry_pipelines.registry.gar.defaults import has_defaults
from registry_pipelines.registry.gar.registry import GarRegistry
from tests.patience import patient
from tests.registry.gar.conftest import APP, HOST, QUICK
from tests.registry.gar.test_registry import push

ROBOT = "robot@ml-prod.iam.gserviceaccount.com"
WAYS = ["service_account", "refresh", "federated", "federated-impersonated", "impersonated"]


@pytest.fixture
def way(request: pytest.FixtureRequest, google: Any, tmp_path: Path) -> tuple[GoogleAccess, str, str]:
    """(access, what gives the token, whose it is)."""
    from tests.doubles.google.accounts import Accounts, federation_file, service_account_file, user_file

    world, here = google.world, google.endpoint
    make: dict[str, Callable[[], tuple[GoogleAccess, str, str]]] = {
        "service_account": lambda: (
            GoogleAccess(credentials_file=service_account_file(world, tmp_path / "a.json", here)),
            "service_account",
            "ci@ml-prod.iam.gserviceaccount.com",
        ),
        "refresh": lambda: (
            GoogleAccess(credentials_file=user_file(world, tmp_path / "a.json", here)),
            "refresh",
            "ada@example.com",
        ),
        "federated": lambda: (
            GoogleAccess(credentials_file=federation_file(world, tmp_path / "a.json", here)),
            "federated",
            "principal://iam.googleapis.com/iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/"
            "providers/github",
        ),
        "federated-impersonated": lambda: (
            GoogleAccess(credentials_file=federation_file(world, tmp_path / "a.json", here, impersonate=ROBOT)),
            "impersonated",
            ROBOT,
        ),
        "impersonated": lambda: (
            GoogleAccess(
                credentials_file=service_account_file(world, tmp_path / "a.json", here),
                impersonate=ROBOT,
                endpoint=here,
            ),
            "impersonated",
            ROBOT,
        ),
    }
    made = make[request.param]()
    service_account_file(world, tmp_path / "robot.json", here, ROBOT)
    assert isinstance(world.state(Accounts).given, dict)
    return made


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_a_registry_takes_the_token_of_each_way(way: tuple[GoogleAccess, str, str], google: Any, plane: Any) -> None:
    from tests.doubles.google.accounts import Accounts

    access, gives, whose = way
    registry = GarRegistry(HOST, access=access, dial=plane.address, retries=QUICK)
    push(registry, APP, "v1")
    assert list(registry.tags(APP)) == ["v1"]
    assert google.world.state(Accounts).given[gives] == 1, "one token serves all requests"
    assert google.world.tokens[access.find().password].principal == whose


def test_tokens_are_renewed_when_the_registry_takes_them_no_more(google: Any, plane: Any, access: GoogleAccess) -> None:
    from tests.doubles.google.accounts import Accounts

    registry = GarRegistry(HOST, access=access, dial=plane.address, retries=QUICK)
    push(registry, APP, "v1")
    google.world.ahead = timedelta(hours=2)
    assert list(registry.tags(APP)) == ["v1"]
    assert google.world.state(Accounts).given["service_account"] == 2


def test_tokens_are_renewed_before_they_end(google: Any, plane: Any, access: GoogleAccess) -> None:
    from tests.doubles.google.accounts import Accounts

    google.world.token_s = 200.0  # shorter than what a token is renewed early by: each is used, and not for long
    used = access.find()
    assert not used.anonymous and used.use_until > 0
    assert google.world.state(Accounts).given["service_account"] == 1


def test_a_machine_of_google_logs_in_by_its_metadata_server(google: Any, plane: Any, tmp_path: Path) -> None:
    from tests.doubles.google.accounts import Accounts

    google.world.state(Accounts).metadata_account = ROBOT
    server = google.endpoint.removeprefix("http://")
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_GCE_CHECK",)}
    environ = {**kept, "GCE_METADATA_HOST": server, "GCE_METADATA_IP": server, "GCE_METADATA_ROOT": server}
    code = (
        "from registry_pipelines.registry.gar.access import GoogleAccess\n"
        "from registry_pipelines.registry.gar.registry import GarRegistry\n"
        f"registry = GarRegistry({HOST!r}, access=GoogleAccess(), dial={plane.address!r})\n"
        f"print(registry.blob_size({APP!r}, __import__('registry_pipelines.oci.digest').oci.digest.Digest.of(b'')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=patient(60)
    )
    assert done.stdout == "None\n", done.stderr
    assert google.world.state(Accounts).given["metadata"] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"private_key": None}, "private_key field was not found"),
        ({"type": "unknown"}, "its type is"),
        ({"client_email": "gone@ml-prod.iam.gserviceaccount.com"}, "account not found"),
    ],
)
def test_files_that_do_not_log_in(google: Any, key_file: Path, change: dict[str, Any], said: str) -> None:
    document = {name: value for name, value in {**json.loads(key_file.read_text()), **change}.items() if value}
    key_file.write_text(json.dumps(document))
    with pytest.raises(Unauthorized, match=said) as caught:
        GoogleAccess(credentials_file=key_file).find()
    assert "BEGIN PRIVATE KEY" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"type": "service_account", "private_key": "x"}'])
def test_files_that_are_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    with pytest.raises(Unauthorized):
        GoogleAccess(credentials_file=path).find()
    with pytest.raises(Unauthorized, match="cannot be read"):
        GoogleAccess(credentials_file=tmp_path / "none.json").find()


def test_somebody_who_may_not_impersonate_is_told_the_role(google: Any, key_file: Path) -> None:
    google.world.deny("iam.serviceAccounts.getAccessToken")
    access = GoogleAccess(credentials_file=key_file, impersonate=ROBOT, endpoint=google.endpoint)
    with pytest.raises(Forbidden, match=r"roles/iam\.serviceAccountTokenCreator"):
        access.find()
    google.world.denied.clear()
    with pytest.raises(NotFound, match="robot"):
        access.find()


def test_a_token_service_that_fails_is_worth_another_try(google: Any, access: GoogleAccess) -> None:
    from tests.doubles.google import Fault

    google.world.fail("token", Fault(html=503, times=50))
    with pytest.raises(Unavailable):
        access.find()


def test_signs_of_default_credentials_are_looked_up_without_the_network(tmp_path: Path) -> None:
    machine = tmp_path / "product_name"
    assert not has_defaults({"HOME": str(tmp_path)}, machine)
    machine.write_text("Google Compute Engine\n")
    assert has_defaults({"HOME": str(tmp_path)}, machine)
    assert not has_defaults({"HOME": str(tmp_path), "NO_GCE_CHECK": "true"}, machine)
    machine.write_text("KVM")
    assert not has_defaults({"HOME": str(tmp_path)}, machine)
    assert has_defaults({"HOME": str(tmp_path), "K_SERVICE": "app"}, machine)
    kept = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    assert has_defaults({"HOME": str(tmp_path)}, machine)
    assert not has_defaults({"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path / "other")}, machine)


def test_default_credentials_are_found_where_google_looks(
    google: Any, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key_file))
    assert GoogleAccess().find().username == "oauth2accesstoken"
