"""Where moto, that our double of AWS stands on, is wrong about ECR: each row holds on the double and not on bare moto.

A row is a question that AWS's own client asks, and the answer that AWS documents (API reference, user guide, botocore's
model). A row that moto answers rightly some day fails here: then its operation may go to moto.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.doubles.aws.behind import moto_address
from tests.doubles.aws.ecr_registry import EcrRegistries
from tests.doubles.aws.ecr_replication import EcrReplication
from tests.doubles.aws.front import AwsDouble
from tests.doubles.aws.model import SECRET_KEY
from tests.doubles.aws.sts import Role, Sts
from tests.needs import needed_module

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
NAME = "team/app"
Make = Callable[..., Any]
"""Makes a client of a service."""


ROLE = "arn:aws:iam::999988887777:role/reader"


@functools.cache
def clients(url: str) -> Make:
    """Of all services at an address; credentials: as STS gives them, else those of the tests."""

    made: dict[str, Any] = {}

    def make(service: str = "ecr", credentials: dict[str, str] | None = None) -> Any:
        if credentials is None and service in made:
            return made[service]
        known = credentials or {"AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": SECRET_KEY, "SessionToken": None}
        client = boto3.client(
            service,
            region_name="us-east-1" if service == "ecr-public" else "eu-west-1",
            endpoint_url=url,
            aws_access_key_id=known["AccessKeyId"],
            aws_secret_access_key=known["SecretAccessKey"],
            aws_session_token=known["SessionToken"],
            config=Config(retries={"total_max_attempts": 1, "mode": "standard"}, read_timeout=30),
        )
        if credentials is None:
            made[service] = client
        return client

    return make


@pytest.fixture(scope="module")
def double() -> Iterator[AwsDouble]:
    needed_module("flask", "dev")
    with AwsDouble() as aws:
        yield aws


@pytest.fixture
def ours(double: AwsDouble) -> Make:
    """The double, empty."""
    double.area(EcrRegistries).places.clear()
    double.area(EcrReplication).rules.clear()
    double.area(Sts).roles[ROLE] = Role()
    return clients(double.url)


@pytest.fixture
def bare(double: AwsDouble) -> Make:
    """moto alone, empty."""
    host, port = moto_address()
    connection = http.client.HTTPConnection(host, port)
    connection.request("POST", "/moto-api/reset")
    connection.getresponse().read()
    connection.close()
    return clients(f"http://{host}:{port}")


# What the questions need


def blob(ecr: Any, content: bytes) -> dict[str, Any]:
    """A layer of the repository."""
    upload = ecr.initiate_layer_upload(repositoryName=NAME)["uploadId"]
    ecr.upload_layer_part(
        repositoryName=NAME,
        uploadId=upload,
        partFirstByte=0,
        partLastByte=len(content) - 1,
        layerPartBlob=content,
    )
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    ecr.complete_layer_upload(repositoryName=NAME, uploadId=upload, layerDigests=[digest])
    return {"mediaType": CONFIG, "digest": digest, "size": len(content)}


def manifest(text: str = "one", *, config: dict[str, Any] | None = None, **more: Any) -> str:
    """An image; its layers are there when ``config`` and ``layers`` are."""
    nowhere = {"mediaType": CONFIG, "digest": f"sha256:{'0' * 64}", "size": 2}
    said = {"schemaVersion": 2, "mediaType": OCI, "config": config or nowhere, "layers": [], **more}
    return json.dumps({**said, "annotations": {"name": text}})


def sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def repository(make: Make) -> Any:
    ecr = make()
    ecr.create_repository(repositoryName=NAME)
    return ecr


def put(ecr: Any, text: str, tag: str = "", **more: Any) -> str:
    """Push a manifest as a careful caller: with its digest, without which moto invents one."""
    tagged = {"imageTag": tag} if tag else {}
    media = json.loads(text)["mediaType"]
    ecr.put_image(
        repositoryName=NAME, imageManifest=text, imageManifestMediaType=media, imageDigest=sha(text), **tagged, **more
    )
    return sha(text)


def image(ecr: Any, text: str = "one", tag: str = "", **more: Any) -> str:
    try:
        config = blob(ecr, json.dumps({"name": text}).encode())
    except ClientError:
        config = {"mediaType": CONFIG, "digest": f"sha256:{'0' * 64}", "size": 2}  # moto wants no layers
    return put(ecr, manifest(text, config=config, **more), tag)


def index(ecr: Any, *children: str, tag: str = "") -> str:
    entries = [{"mediaType": OCI, "digest": child, "size": 10} for child in children]
    return put(ecr, json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}), tag)


def details(ecr: Any, **more: Any) -> list[Any]:
    return list(ecr.describe_images(repositoryName=NAME, **more)["imageDetails"])


def outcome(act: Callable[[], object]) -> object:
    """What an act gives, or the code of its error."""
    try:
        return act()
    except ClientError as error:
        return error.response["Error"]["Code"]
    except BotoCoreError as error:
        return type(error).__name__


# The questions


def repositories_come_in_pages(make: Make) -> object:
    ecr = make()
    for number in range(3):
        ecr.create_repository(repositoryName=f"team/app{number}")
    first = ecr.describe_repositories(maxResults=2)
    return len(first["repositories"]), bool(first.get("nextToken"))


def images_come_in_pages(make: Make) -> object:
    ecr = repository(make)
    for number in range(3):
        image(ecr, str(number), f"v{number}")
    listed = ecr.list_images(repositoryName=NAME, maxResults=2)
    described = ecr.describe_images(repositoryName=NAME, maxResults=2)
    return len(listed["imageIds"]), len(described["imageDetails"]), bool(described.get("nextToken"))


def a_digest_is_the_manifests(make: Make) -> object:
    """moto invents one where none is given."""
    ecr = repository(make)
    text = manifest(config=blob(ecr, b"{}"))
    said = ecr.put_image(repositoryName=NAME, imageManifest=text, imageTag="v1")["image"]
    return said["imageId"]["imageDigest"] == sha(text)


def a_wrong_digest_is_refused(make: Make) -> object:
    ecr = repository(make)
    text = manifest(config=blob(ecr, b"{}"))
    wrong = {"repositoryName": NAME, "imageManifest": text, "imageDigest": sha("other")}
    return outcome(lambda: ecr.put_image(**wrong))


def missing_layers_are_refused(make: Make) -> object:
    ecr = repository(make)
    return outcome(lambda: put(ecr, manifest()))


def missing_children_are_refused(make: Make) -> object:
    ecr = repository(make)
    return outcome(lambda: index(ecr, sha("nobody")))


def a_missing_repository_is_not_found(make: Make) -> object:
    ecr = make()
    return outcome(lambda: put(ecr, manifest()))


def a_tag_that_moves_leaves_the_old_image(make: Make) -> object:
    ecr = repository(make)
    old, new = image(ecr, "old", "v1"), image(ecr, "new", "v1")
    return sorted((one["imageDigest"] == old, one.get("imageTags", [])) for one in details(ecr)) == sorted(
        [(True, []), (False, ["v1"])]
    ) and bool(new)


def sizes_are_those_of_config_and_layers(make: Make) -> object:
    ecr = repository(make)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **_layer(ecr, b"x" * 5000)}
    image(ecr, "sized", "v1", layers=[layer])
    return details(ecr)[0]["imageSizeInBytes"] == 5000 + len(json.dumps({"name": "sized"}))


def _layer(ecr: Any, content: bytes) -> dict[str, Any]:
    made = blob(ecr, content)
    return {"digest": made["digest"], "size": made["size"]}


def a_list_has_the_size_of_its_largest_image(make: Make) -> object:
    ecr = repository(make)
    child = image(ecr, "child")
    whole = index(ecr, child, tag="v1")
    sizes = {one["imageDigest"]: one.get("imageSizeInBytes") for one in details(ecr)}
    return sizes[whole] is not None and sizes[whole] == sizes[child]


def pulls_are_recorded(make: Make) -> object:
    ecr = repository(make)
    image(ecr, "one", "v1")
    ecr.batch_get_image(repositoryName=NAME, imageIds=[{"imageTag": "v1"}])
    return "lastRecordedPullTime" in details(ecr)[0]


def images_have_a_status(make: Make) -> object:
    ecr = repository(make)
    image(ecr, "one", "v1")
    return details(ecr)[0].get("imageStatus")


def a_referrer_names_its_subject(make: Make) -> object:
    ecr = repository(make)
    one = image(ecr, "one", "v1")
    subject = {"mediaType": OCI, "digest": one, "size": 10}
    image(ecr, "signature", subject=subject, artifactType="application/x.signature")
    [found] = [item for item in details(ecr) if item["imageDigest"] != one]
    return found.get("subjectManifestDigest") == one, found.get("artifactMediaType")


def images_can_be_asked_for_by_tag_status(make: Make) -> object:
    ecr = repository(make)
    image(ecr, "one", "v1")
    image(ecr, "two")
    return len(details(ecr, filter={"tagStatus": "UNTAGGED"}))


def what_is_archived_is_not_listed(make: Make) -> object:
    ecr = repository(make)
    digest = image(ecr, "one", "v1")
    ecr.update_image_storage_class(repositoryName=NAME, imageId={"imageDigest": digest}, targetStorageClass="ARCHIVE")
    answer = ecr.batch_get_image(repositoryName=NAME, imageIds=[{"imageDigest": digest}])
    failures = [one["failureCode"] for one in answer["failures"]]
    return details(ecr), [one["imageStatus"] for one in details(ecr, filter={"imageStatus": "ANY"})], failures


def an_image_without_tag_has_none(make: Make) -> object:
    ecr = repository(make)
    digest = image(ecr, "one")
    gone = ecr.batch_delete_image(repositoryName=NAME, imageIds=[{"imageDigest": digest}])["imageIds"]
    return gone == [{"imageDigest": digest}]


def accepted_types_are_heard(make: Make) -> object:
    ecr = repository(make)
    image(ecr, "one", "v1")
    asked = {"imageIds": [{"imageTag": "v1"}], "acceptedMediaTypes": [INDEX]}
    return bool(
        outcome(lambda: ecr.batch_get_image(repositoryName=NAME, **asked)["images"]) == "InvalidParameterException"
    )


def what_an_index_needs_stays(make: Make) -> object:
    ecr = repository(make)
    child = image(ecr, "child")
    index(ecr, child, tag="v1")
    answer = ecr.batch_delete_image(repositoryName=NAME, imageIds=[{"imageDigest": child}])
    return [one["failureCode"] for one in answer["failures"]]


def a_layer_under_another_digest_is_refused(make: Make) -> object:
    ecr = repository(make)
    upload = ecr.initiate_layer_upload(repositoryName=NAME)["uploadId"]
    part = {"partFirstByte": 0, "partLastByte": 1, "layerPartBlob": b"xx"}
    ecr.upload_layer_part(repositoryName=NAME, uploadId=upload, **part)
    named = {"repositoryName": NAME, "uploadId": upload, "layerDigests": [sha("other")]}
    return outcome(lambda: ecr.complete_layer_upload(**named))


def only_the_last_part_is_small(make: Make) -> object:
    ecr = repository(make)
    upload = ecr.initiate_layer_upload(repositoryName=NAME)["uploadId"]

    def part(first: int) -> object:
        return ecr.upload_layer_part(
            repositoryName=NAME, uploadId=upload, partFirstByte=first, partLastByte=first + 1, layerPartBlob=b"xx"
        )

    part(0)
    part(2)
    named = {"repositoryName": NAME, "uploadId": upload, "layerDigests": [sha("xxxx")]}
    return outcome(lambda: ecr.complete_layer_upload(**named))


def exclusions_are_wildcards(make: Make) -> object:
    """moto takes them as regular expressions that match from the start."""
    ecr = make()
    ecr.create_repository(
        repositoryName=NAME,
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "latest"}],
    )
    image(ecr, "one", "latest-fixed")
    return outcome(lambda: image(ecr, "two", "latest-fixed"))


def an_immutable_tag_has_its_own_error(make: Make) -> object:
    ecr = make()
    ecr.create_repository(
        repositoryName=NAME,
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=[{"filterType": "WILDCARD", "filter": "latest"}],
    )
    image(ecr, "one", "v1")
    return outcome(lambda: image(ecr, "two", "v1"))


def a_token_ends_in_the_future(make: Make) -> object:
    [data] = make().get_authorization_token()["authorizationData"]
    return data["expiresAt"].timestamp() > time.time()


def account_settings_are_there(make: Make) -> object:
    ecr = make()
    ecr.put_account_setting(name="BLOB_MOUNTING", value="ENABLED")
    return ecr.get_account_setting(name="BLOB_MOUNTING")["value"]


def referrers_are_listed(make: Make) -> object:
    ecr = repository(make)
    one = image(ecr, "one", "v1")
    image(ecr, "signature", subject={"mediaType": OCI, "digest": one, "size": 10}, artifactType="application/x.sig")
    answer = ecr.list_image_referrers(repositoryName=NAME, subjectId={"imageDigest": one})
    return [item["artifactType"] for item in answer["referrers"]]


def another_accounts_registry_is_another(make: Make) -> object:
    """Named by registryId: moto looks in the caller's own."""
    there = make("sts").assume_role(RoleArn=ROLE, RoleSessionName="test")["Credentials"]
    make("ecr", there).create_repository(repositoryName="theirs")
    found = make().describe_repositories(registryId="999988887777")["repositories"]
    return [one["repositoryArn"] for one in found]


def a_digest_is_signed_as_it_is(make: Make) -> object:
    """moto hashes it once more."""
    kms = make("kms")
    key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    digest = hashlib.sha256(b"content").digest()
    asked = {"KeyId": key, "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.sign(Message=digest, **asked)["Signature"]
    public = load_der_public_key(kms.get_public_key(KeyId=key)["PublicKey"])
    try:
        public.verify(signature, b"content", ECDSA(SHA256()))  # type: ignore[call-arg, union-attr]
    except InvalidSignature:
        return False
    return True


def a_push_is_told(make: Make) -> object:
    """By EventBridge, to the queue of a rule."""
    sqs, events, ecr = make("sqs"), make("events"), repository(make)
    queue = sqs.create_queue(QueueName="pushes")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.ecr"], "detail": {"action-type": ["PUSH"], "result": ["SUCCESS"]}}
    events.put_rule(Name="pushes", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="pushes", Targets=[{"Id": "queue", "Arn": arn}])
    image(ecr, "one", "v1")
    ecr.batch_delete_image(repositoryName=NAME, imageIds=[{"imageTag": "v1"}])  # another action
    told = [json.loads(one["Body"]) for one in sqs.receive_message(QueueUrl=queue).get("Messages", [])]
    sqs.delete_queue(QueueUrl=queue)
    events.remove_targets(Rule="pushes", Ids=["queue"])
    return [
        (one["detail-type"], one["account"], one["detail"]["action-type"], one["detail"]["image-tag"]) for one in told
    ]


def ecr_public_gives_a_log_in(make: Make) -> object:
    return "authorizationToken" in make("ecr-public").get_authorization_token()["authorizationData"]


def an_operation_that_nobody_has_is_a_clear_error(make: Make) -> object:
    try:
        make("bedrock").list_foundation_models()
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    return None


def lifecycle(*rules: dict[str, Any]) -> str:
    listed = [{"rulePriority": number, "action": {"type": "expire"}, **rule} for number, rule in enumerate(rules, 1)]
    return json.dumps({"rules": listed}).ljust(100)


def newest(tags: str, count: int) -> dict[str, Any]:
    selected = {"tagStatus": "tagged", "tagPatternList": [tags]}
    return {"selection": {**selected, "countType": "imageCountMoreThan", "countNumber": count}}


def a_lifecycle_policy_of_today_is_kept(make: Make) -> object:
    """Patterns, and what goes to the archive."""
    ecr = repository(make)
    pulled = {"tagStatus": "any", "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 90}
    text = lifecycle(
        newest("prod*", 10), {"selection": pulled, "action": {"type": "transition", "targetStorageClass": "archive"}}
    )
    ecr.put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText=text)
    return bool(ecr.get_lifecycle_policy(repositoryName=NAME)["lifecyclePolicyText"] == text)


def a_lifecycle_policy_that_is_none_is_refused(make: Make) -> object:
    """The rule for any image is not the last."""
    ecr = repository(make)
    rules = [
        {"selection": {"tagStatus": status, "countType": "imageCountMoreThan", "countNumber": 5}}
        for status in ("any", "untagged")
    ]
    return ecr.put_lifecycle_policy(repositoryName=NAME, lifecyclePolicyText=lifecycle(*rules))


def a_preview_says_what_would_go(make: Make) -> object:
    ecr = repository(make)
    for number in range(3):
        image(ecr, f"number {number}", f"v{number}")
    text = lifecycle(newest("v*", 1))
    ecr.start_lifecycle_policy_preview(repositoryName=NAME, lifecyclePolicyText=text)
    found = ecr.get_lifecycle_policy_preview(repositoryName=NAME)
    return found["status"], found["summary"]["expiringImageTotalCount"]


def several_rules_of_replication_are_kept(make: Make) -> object:
    ecr = make()
    rules = [
        {"destinations": [{"region": region, "registryId": "123456789012"}], "deleteReplication": {"enabled": True}}
        for region in ("us-east-1", "us-west-2")
    ]
    ecr.put_replication_configuration(replicationConfiguration={"rules": rules})
    return len(ecr.describe_registry()["replicationConfiguration"]["rules"])


def a_pushed_image_says_where_it_was_replicated(make: Make) -> object:
    several_rules_of_replication_are_kept(make)
    ecr = repository(make)
    digest = image(ecr, "one", "v1")
    found = ecr.describe_image_replication_status(repositoryName=NAME, imageId={"imageDigest": digest})
    return sorted({each["status"] for each in found["replicationStatuses"]})


def a_backfill_copies_what_was_there(make: Make) -> object:
    ecr = repository(make)
    image(ecr, "one", "v1")
    several_rules_of_replication_are_kept(make)
    destination = {"region": "us-east-1", "registryId": "123456789012"}
    begun = ecr.start_replication_backfill(destination=destination)["replicationBackfillId"]
    [ended] = [each for each in ecr.list_replication_backfills()["backfills"] if each["replicationBackfillId"] == begun]
    return ended["status"], ended["progress"]["completedReplicationCount"]


def a_cache_of_a_registry_with_a_log_in_needs_a_secret(make: Make) -> object:
    return make().create_pull_through_cache_rule(
        ecrRepositoryPrefix="hub", upstreamRegistryUrl="registry-1.docker.io", upstreamRegistry="docker-hub"
    )


def a_template_is_kept(make: Make) -> object:
    ecr = make()
    ecr.create_repository_creation_template(prefix="team", appliedFor=["CREATE_ON_PUSH"])
    return [each["prefix"] for each in ecr.describe_repository_creation_templates()["repositoryCreationTemplates"]]


def managed_signing_is_kept(make: Make) -> object:
    ecr = make()
    profile = "arn:aws:signer:eu-west-1:123456789012:/signing-profiles/release"
    ecr.put_signing_configuration(signingConfiguration={"rules": [{"signingProfileArn": profile}]})
    return len(ecr.get_signing_configuration()["signingConfiguration"]["rules"])


def signing_profiles_are_listed(make: Make) -> object:
    signer = make("signer")
    signer.put_signing_profile(profileName="listed", platformId="Notation-OCI-SHA384-ECDSA")
    return "listed" in [each["profileName"] for each in signer.list_signing_profiles()["profiles"]]


def a_policy_tells_accounts_as_their_roots(make: Make) -> object:
    ecr = repository(make)
    allowed = {"Effect": "Allow", "Principal": {"AWS": "222233334444"}, "Action": "ecr:BatchGetImage"}
    ecr.set_repository_policy(repositoryName=NAME, policyText=json.dumps({"Statement": [allowed]}))
    text = ecr.get_repository_policy(repositoryName=NAME)["policyText"]
    return json.loads(text)["Statement"][0]["Principal"]["AWS"]


QUESTIONS: list[tuple[Callable[[Make], object], object]] = [
    (repositories_come_in_pages, (2, True)),
    (images_come_in_pages, (2, 2, True)),
    (a_digest_is_the_manifests, True),
    (a_wrong_digest_is_refused, "ImageDigestDoesNotMatchException"),
    (missing_layers_are_refused, "LayersNotFoundException"),
    (missing_children_are_refused, "ReferencedImagesNotFoundException"),
    (a_missing_repository_is_not_found, "RepositoryNotFoundException"),
    (a_tag_that_moves_leaves_the_old_image, True),
    (sizes_are_those_of_config_and_layers, True),
    (a_list_has_the_size_of_its_largest_image, True),
    (pulls_are_recorded, True),
    (images_have_a_status, "ACTIVE"),
    (a_referrer_names_its_subject, (True, "application/x.signature")),
    (images_can_be_asked_for_by_tag_status, 1),
    (what_is_archived_is_not_listed, ([], ["ARCHIVED"], ["ImageInaccessible"])),
    (an_image_without_tag_has_none, True),
    (accepted_types_are_heard, True),
    (what_an_index_needs_stays, ["ImageReferencedByManifestList"]),
    (a_layer_under_another_digest_is_refused, "InvalidLayerException"),
    (only_the_last_part_is_small, "LayerPartTooSmallException"),
    (exclusions_are_wildcards, "ImageTagAlreadyExistsException"),
    (an_immutable_tag_has_its_own_error, "ImageTagAlreadyExistsException"),
    (a_token_ends_in_the_future, True),
    (account_settings_are_there, "ENABLED"),
    (referrers_are_listed, ["application/x.sig"]),
    (another_accounts_registry_is_another, ["arn:aws:ecr:eu-west-1:999988887777:repository/theirs"]),
    (a_lifecycle_policy_of_today_is_kept, True),
    (a_lifecycle_policy_that_is_none_is_refused, "InvalidParameterException"),
    (a_preview_says_what_would_go, ("COMPLETE", 2)),
    (several_rules_of_replication_are_kept, 2),
    (a_pushed_image_says_where_it_was_replicated, ["COMPLETE"]),
    (a_backfill_copies_what_was_there, ("COMPLETE", 1)),
    (a_cache_of_a_registry_with_a_log_in_needs_a_secret, "ValidationException"),
    (a_template_is_kept, ["team"]),
    (managed_signing_is_kept, 1),
    (signing_profiles_are_listed, True),
    (a_policy_tells_accounts_as_their_roots, "arn:aws:iam::222233334444:root"),
    (a_push_is_told, [("ECR Image Action", "123456789012", "PUSH", "v1")]),
    (a_digest_is_signed_as_it_is, True),
    (ecr_public_gives_a_log_in, True),
    (an_operation_that_nobody_has_is_a_clear_error, ("UnknownOperationException", 400)),
]


@pytest.mark.parametrize(("question", "answer"), QUESTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_double_is_right_where_moto_is_not(
    question: Callable[[Make], object], answer: object, ours: Make, bare: Make
) -> None:
    assert outcome(lambda: question(ours)) == answer
    assert outcome(lambda: question(bare)) != answer
