"""What maturity reads of a cloud's settings: private, lifecycle, immutable, caches; and unknown where it may not."""

from __future__ import annotations

import json

from registry_pipelines.chain.maturity_settings import Settings, _of_gar, read_settings
from registry_pipelines.infra.cloud import Found
from registry_pipelines.infra.gar import kinds
from registry_pipelines.infra.settings import Setting
from tests.doubles.aws.ecr_policies import EcrPolicies
from tests.doubles.aws.front import ACCOUNT
from tests.infra.cloud import REGION, Cloud
from tests.infra.declarations import EVERYTHING

OPEN = {"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}


def told(settings: Settings, repository: str) -> tuple[bool | None, bool | None, bool | None]:
    return tuple(ask(repository).value for ask in (settings.private, settings.lifecycle, settings.immutable))  # type: ignore[return-value]


def test_settings_of_ecr_answer_repository_by_repository(ecr: Cloud) -> None:
    ecr.chain(EVERYTHING).apply_infra("eu")
    chain = ecr.chain("{}")  # nothing is declared: it is read all the same
    names = ["ml/a", "tools", "ml/none"]
    settings = read_settings(chain._session, "eu", names)
    assert told(settings, "ml/a") == (True, True, True)  # an organization may read: that is not everybody
    assert told(settings, "tools") == (True, False, False)
    nowhere = settings.immutable("ml/none").criterion("immutable", "make it")
    assert (nowhere.answer, nowhere.do) == ("unknown", "make it") and "no repository ml/none" in nowhere.why
    assert set(settings.caches) == {"quay.io", "registry-1.docker.io"}
    assert settings.all(settings.immutable, ["ml/a", "tools"]).value is False
    policies = ecr.aws.area(EcrPolicies)
    policies.texts["policy", ACCOUNT, REGION, "tools"] = json.dumps({"Version": "2012-10-17", "Statement": [OPEN]})
    assert told(read_settings(chain._session, "eu", names), "tools") == (False, False, False)
    assert told(read_settings(chain._session, "eu", names), "ml/a")[0] is True


def test_only_repositories_of_images_are_asked_and_what_may_not_be_read_is_unknown(ecr: Cloud) -> None:
    ecr.chain(EVERYTHING).apply_infra("eu")
    chain = ecr.chain("{}")
    ecr.asked()
    settings = read_settings(chain._session, "eu", ["tools"])
    asked = {action.rpartition(":")[2]: count for action, count in ecr.asked().items()}
    assert asked["GetLifecyclePolicy"] == asked["GetRepositoryPolicy"] == 1 and "ListTagsForResource" not in asked
    assert settings.notes == ()
    ecr.aws.deny("ecr:GetRepositoryPolicy", "ecr:GetLifecyclePolicy")
    denied = read_settings(chain._session, "eu", ["ml/a"])
    assert told(denied, "ml/a") == (None, None, True) and "could not be read" in denied.lifecycle("ml/a").why


def test_settings_of_artifact_registry_are_those_of_its_repository() -> None:
    def repository(name: str, **fields: object) -> Setting:
        return Setting(kind=kinds.REPOSITORY, place="gar", name=name, found=fields)

    readers = {"repository": "open", "principal": "allUsers", "effect": kinds.READER, "condition": "", "from": "x"}
    found = Found(
        settings=(
            repository("good", immutable_tags=True, cleanup={"old": {}}),
            repository("open", immutable_tags=False, cleanup={"old": {}}, cleanup_dry_run=True),
            repository("hub", **{"remote.upstream": "docker-hub"}),
        ),
        readers=(readers, {**readers, "repository": "good", "principal": "user:me@example.com"}),
    )
    settings = _of_gar("gar", found)
    assert told(settings, "ml-prod/good/app") == (True, True, True)
    assert told(settings, "ml-prod/open/app") == (False, False, False)
    assert told(settings, "ml-prod/none/app")[1:] == (None, None)
    assert settings.caches == ("docker-hub",)
