"""Calls of AWS's APIs through the one place that makes them: what is tried again, what errors say, lists, batches."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry_pipelines.errors import (
    Forbidden,
    InputError,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.registry.client.retries import NEVER, Retries
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.registry.ecr.access import AwsAccess
from registry_pipelines.registry.ecr.calls import AwsCalls
from registry_pipelines.registry.ecr.images import EcrImages
from registry_pipelines.transfer.limits.apis import pace_of
from registry_pipelines.transfer.limits.machine import MachineLimits
from tests.doubles.aws.ecr_places import Image
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.front import ACCOUNT, ApiError, AwsDouble, Html
from tests.doubles.aws.sts import Role, Sts

REGION = "eu-west-1"
ROLE = "arn:aws:iam::999988887777:role/reader"
OCI = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsDouble]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    with AwsDouble() as double:
        for name, value in double.environment.items():
            monkeypatch.setenv(name, value)
        yield double


@pytest.fixture
def waits() -> list[float]:
    return []


def quick(waits: list[float], attempts: int = 3) -> Retries:
    return Retries(attempts=attempts, sleep=waits.append)


def fill(aws: AwsDouble, count: int, *, name: str = "team/app", account: str = ACCOUNT) -> list[Image]:
    """Images without content, each with a tag ``v0``, ``v1`` and so on."""
    place = aws.area(EcrRegistries).at(account, REGION)
    there = place.open(name)
    made = []
    for number in range(count):
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": {"size": number}}).encode()
        image = Image(raw, OCI, pushed_at=1_700_000_000.0 + number)
        there.images[image.digest] = image
        there.tags[f"v{number}"] = image.digest
        made.append(image)
    return made


def images(waits: list[float], access: AwsAccess | None = None, account: str = ACCOUNT) -> EcrImages:
    access = access or AwsAccess(REGION)
    return EcrImages(account, access, calls=AwsCalls(access, retries=quick(waits)))


def test_lists_have_all_images_of_every_status(aws: AwsDouble, waits: list[float]) -> None:
    made = fill(aws, 2345)
    made[7].archived, made[7].archived_at = True, 1_750_000_000.0
    made[8].pulled_at = 1_760_000_000.0
    found = {one.digest: one for one in images(waits).list_images("team/app")}
    assert found.keys() == {image.digest for image in made}
    assert aws.count("DescribeImages") == 3
    assert found[made[7].digest].status == "ARCHIVED" and found[made[7].digest].archived
    pulled = found[made[8].digest].pulled
    assert pulled is not None and pulled.timestamp() == 1_760_000_000.0
    assert found[made[8].digest].tags == ("v8",)
    assert [one.name for one in images(waits).list_repositories()] == ["team/app"]


@pytest.mark.parametrize(
    "fault",
    [
        ApiError("ThrottlingException", "Rate exceeded"),
        ApiError("ServerException", status=500),
        Html(),
        Html(503),
        "cut",
        "lose",
    ],
    ids=str,
)
def test_what_may_pass_is_tried_again(fault: str | ApiError | Html, aws: AwsDouble, waits: list[float]) -> None:
    fill(aws, 1)
    aws.fail("DescribeImages", fault, times=2)
    asked = images(waits)
    assert len(list(asked.list_images("team/app"))) == 1
    assert len(waits) == 2
    assert asked.calls.sent.value == 3
    aws.fail("DescribeImages", fault, times=3)
    with pytest.raises(Unavailable):
        list(asked.list_images("team/app"))


def test_the_observer_sees_every_failed_attempt(aws: AwsDouble, waits: list[float]) -> None:
    seen: list[RegistryPipelinesError] = []
    aws.fail("DescribeRepositories", ApiError("ThrottlingException", "Rate exceeded"), times=3)
    calls = AwsCalls(AwsAccess(REGION), retries=quick(waits), observer=seen.append)
    with pytest.raises(RateLimited, match="Rate exceeded"):
        calls.call("describe_repositories", where="here")
    assert [type(error) for error in seen] == [RateLimited] * 3


def test_a_batch_tells_of_each_that_failed(aws: AwsDouble, waits: list[float]) -> None:
    made = fill(aws, 250)
    made[3].archived = True
    asked = [*(image.digest for image in made), "sha256:12", "nobody", f"sha256:{'0' * 64}"]
    found, failures = images(waits).manifests("team/app", asked)
    assert aws.count("BatchGetImage") == 3
    assert len(found) == 249
    assert all(found[image.digest].raw == image.raw for image in made if not image.archived)
    assert {(one.name, one.code) for one in failures} == {
        (made[3].digest, "ImageInaccessible"),
        ("sha256:12", "InvalidImageDigest"),
        ("nobody", "ImageNotFound"),
        (f"sha256:{'0' * 64}", "ImageNotFound"),
    }


def test_what_an_index_needs_is_told_when_it_is_not_deleted(aws: AwsDouble, waits: list[float]) -> None:
    [child] = fill(aws, 1)
    index_type = "application/vnd.oci.image.index.v1+json"
    raw = json.dumps({"mediaType": index_type, "manifests": [{"digest": child.digest}]}).encode()
    index = Image(raw, index_type)
    aws.area(EcrRegistries).at(ACCOUNT, REGION).open("team/app").images[index.digest] = index
    assert [(one.name, one.code) for one in images(waits).delete("team/app", [child.digest])] == [
        (child.digest, "ImageReferencedByManifestList")
    ]
    assert images(waits).delete("team/app", [index.digest]) == []
    assert images(waits).delete("team/app", [child.digest]) == []


def test_an_archived_image_is_found_and_restored(aws: AwsDouble, waits: list[float]) -> None:
    [image] = fill(aws, 1)
    now = [1_800_000_000.0]
    aws.clock = lambda: now[0]
    image.archived = True
    registry = images(waits)
    assert registry.find_image("team/app", "v0").status == "ARCHIVED"
    assert registry.restore("team/app", image.digest) == "ACTIVATING"
    now[0] += 1200
    assert registry.find_image("team/app", "v0").status == "ACTIVE"
    with pytest.raises(RegistryError) as caught:
        registry.restore("team/app", image.digest)
    assert caught.value.code == "ImageStorageClassUpdateNotSupportedException"


def test_what_is_missing_is_not_found(aws: AwsDouble, waits: list[float]) -> None:
    registry = images(waits)
    fill(aws, 1)
    with pytest.raises(NotFound, match="team/none"):
        list(registry.list_images("team/none"))
    with pytest.raises(NotFound):
        registry.find_image("team/app", "nobody")
    with pytest.raises(NotFound, match="creation template"):
        registry.find_repository("team/none")
    assert waits == []


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            "User: arn:aws:iam::111122223333:user/x is not authorized to perform: ecr:DescribeImages on resource: "
            "arn:aws:ecr:eu-west-1:111122223333:repository/app because no identity-based policy allows the "
            "ecr:DescribeImages action",
            "Allow ecr:DescribeImages on arn:aws:ecr:eu-west-1:111122223333:repository/app in a policy of the caller",
        ),
        (
            "User: u is not authorized to perform: ecr:DescribeImages on resource: r with an explicit deny in a "
            "service control policy: arn:aws:organizations::1:policy/p",
            "the organisation's service control policy forbids it (an explicit deny",
        ),
        (
            "User: u is not authorized to perform: kms:Decrypt on resource: k because no resource-based policy allows",
            "Allow kms:Decrypt on k in the policy of the repository or key",
        ),
        ("no reason", "Allow ecr:DescribeImages in IAM"),
    ],
)
def test_a_refusal_names_the_action_of_iam(error: str, advice: str, aws: AwsDouble, waits: list[float]) -> None:
    fill(aws, 1)
    aws.fail("DescribeImages", ApiError("AccessDeniedException", error))
    with pytest.raises(Forbidden) as caught:
        list(images(waits).list_images("team/app"))
    assert advice in caught.value.do


def test_the_action_of_referrers_has_another_name(aws: AwsDouble, waits: list[float]) -> None:
    fill(aws, 1)
    aws.fail("ListImageReferrers", ApiError("AccessDeniedException", "no"))
    with pytest.raises(Forbidden) as caught:
        AwsCalls(AwsAccess(REGION)).call(
            "list_image_referrers", where="x", repositoryName="team/app", subjectId={"imageDigest": "sha256:1"}
        )
    assert "Allow ecr:BatchGetImage" in caught.value.do


# Credentials


def test_without_credentials(aws: AwsDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for access in (AwsAccess(REGION), AwsAccess(REGION, role=ROLE)):
        with pytest.raises(Unauthorized, match="there are no AWS credentials"):
            AwsCalls(access, retries=NEVER).call("describe_repositories", where="here")
    assert aws.calls == []


def test_a_role_is_another_account(aws: AwsDouble, waits: list[float]) -> None:
    fill(aws, 1, name="theirs", account="999988887777")
    aws.area(Sts).roles[ROLE] = Role(external_id="secret-word")
    access = AwsAccess(REGION, role=ROLE, external_id="secret-word", endpoint=aws.url)
    assert [one.name for one in images(waits, access, "999988887777").list_repositories()] == ["theirs"]
    assert [(call.action, call.account) for call in aws.calls] == [
        ("AssumeRole", ACCOUNT), ("DescribeRepositories", "999988887777"),
    ]  # fmt: skip
    wrong = AwsAccess(REGION, role=ROLE, external_id="another", endpoint=aws.url)
    with pytest.raises(Forbidden) as caught:
        list(images(waits, wrong, "999988887777").list_repositories())
    assert f"Allow sts:AssumeRole on {ROLE}" in caught.value.do
    assert "another" not in str(caught.value)


def test_a_role_is_assumed_anew_before_its_session_ends(aws: AwsDouble, waits: list[float]) -> None:
    """botocore asks for another session a quarter of an hour before the end; what ends in ten minutes is too late."""
    aws.area(Sts).roles[ROLE] = Role(session_s=600)
    access = AwsAccess(REGION, role=ROLE, endpoint=aws.url)
    registry = images(waits, access, "999988887777")
    for _ in range(3):
        assert list(registry.list_repositories()) == []
    assert aws.count("AssumeRole") == 3
    aws.area(Sts).roles[ROLE] = Role(session_s=7200)
    for _ in range(3):
        list(registry.list_repositories())
    assert aws.count("AssumeRole") <= 5


def test_a_session_that_has_expired(aws: AwsDouble, waits: list[float]) -> None:
    aws.default.expires_at = 1.0
    with pytest.raises(Unauthorized, match="expired") as caught:
        list(images(waits).list_repositories())
    assert "log in again" in caught.value.do
    assert waits == []


def test_another_partition_or_region_is_said_to_be_one(aws: AwsDouble, waits: list[float]) -> None:
    aws.fail("DescribeRepositories", ApiError("UnrecognizedClientException", "The security token is invalid."))
    with pytest.raises(Unauthorized) as caught:
        list(images(waits).list_repositories())
    assert "GovCloud" in caught.value.do and "not enabled" in caught.value.do


def test_a_region_that_is_none(aws: AwsDouble) -> None:
    with pytest.raises(InputError):
        AwsCalls(AwsAccess("nowhere!")).call("describe_repositories", where="here")


@pytest.mark.parametrize(
    ("region", "options", "host"),
    [
        ("eu-west-1", {}, "api.ecr.eu-west-1.amazonaws.com"),
        ("cn-north-1", {}, "api.ecr.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", {"fips": True}, "ecr-fips.us-gov-west-1.amazonaws.com"),
        ("eusc-de-east-1", {}, "api.ecr.eusc-de-east-1.amazonaws.eu"),
        ("us-east-1", {"dualstack": True}, "ecr.us-east-1.api.aws"),
        ("us-east-1", {"fips": True, "dualstack": True}, "ecr-fips.us-east-1.api.aws"),
    ],
)
def test_every_partition_has_its_endpoint(
    region: str, options: dict[str, bool], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_ENDPOINT")]:
        monkeypatch.delenv(name)
    client = AwsCalls(AwsAccess(region, **options)).client("ecr", where="here")
    assert client.meta.endpoint_url == f"https://{host}"


# Pace and pages


def test_calls_pass_the_windows_of_their_registry(aws: AwsDouble, waits: list[float]) -> None:
    """Those of an image the same as the distribution protocol's, all others one of their own; throttling shrinks it."""
    host = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    limits = MachineLimits()
    calls = AwsCalls(AwsAccess(REGION), retries=quick(waits), pace=pace_of(limits, host))
    registry = EcrImages(ACCOUNT, AwsAccess(REGION), calls=calls)
    fill(aws, 1)
    aws.fail("DescribeImages", ApiError("ThrottlingException", "Rate exceeded"))
    list(registry.list_images("team/app"))
    list(registry.list_repositories())
    in_force = {row["action"]: row for row in limits.in_force()}
    assert in_force.keys() == {"read-manifest", "settings"}
    assert int(in_force["read-manifest"]["window"]) < int(in_force["settings"]["window"])
    assert in_force["read-manifest"]["budget_per_second"] == 2000


def test_images_are_put_ten_a_second_by_all_doors(aws: AwsDouble) -> None:
    """The reservations, not the clock: a call takes its place in the line that manifests of the protocol stand in."""
    host = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
    limits = MachineLimits()
    pace = pace_of(limits, host)
    with pace("ecr", "put_image"):
        pass
    window = limits.window(host, "write-manifest")
    before = window.stopped_s()
    window._bucket.reserve(100, window.per_second)
    assert window.per_second == 10
    assert window.stopped_s() - before > 9


def test_a_list_whose_token_does_not_move_is_no_whole_list(aws: AwsDouble) -> None:
    """Whoever deletes what a list does not name must not take it for one."""

    class Stuck:
        def client(self, service: str, **_: object) -> Stuck:
            return self

        def list_things(self, **_: object) -> dict[str, object]:
            return {"things": [1], "nextToken": "same"}

    calls = AwsCalls(Stuck())  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="list things leads to the same page again"):
        list(calls.pages("list_things", "things", where="here"))


def test_many_threads_share_one_client(aws: AwsDouble, waits: list[float]) -> None:
    fill(aws, 3)
    registry = images(waits)
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(len(list(registry.list_images("team/app"))))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 8
    assert registry.calls.sent.value == 8


def test_an_answer_that_does_not_come_is_not_waited_for_long(aws: AwsDouble, waits: list[float]) -> None:
    over = threading.Event()
    aws.fail("DescribeRepositories", over.wait, times=3)
    calls = AwsCalls(AwsAccess(REGION), timeouts=Timeouts(stall_s=0.2), retries=quick(waits, attempts=2))
    with pytest.raises(Unavailable, match="no byte moved"):
        calls.call("describe_repositories", where="here")
    over.set()
    assert len(waits) == 1


def test_a_wrong_parameter_is_no_reason_to_try_again(aws: AwsDouble, waits: list[float]) -> None:
    with pytest.raises(InputError):
        AwsCalls(AwsAccess(REGION), retries=quick(waits)).call("describe_images", where="here", repositoryName="x")
    aws.fail("DescribeRepositories", ApiError("InvalidParameterException", "bad"))
    with pytest.raises(Refused):
        AwsCalls(AwsAccess(REGION), retries=quick(waits)).call("describe_repositories", where="here")
    assert waits == []
