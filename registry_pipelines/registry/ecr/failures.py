"""What boto3 raises becomes errors of ``errors.py``. Codes: botocore's model of ECR and AWS's common errors.

An answer's words are quoted shortened and without secrets: a refused signature is answered with the whole request as
AWS saw it, session token included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from registry_pipelines.errors import (
    DigestMismatch,
    Forbidden,
    InputError,
    NotFound,
    OverQuota,
    RateLimited,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    Stalled,
    TlsFailed,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from registry_pipelines.registry.client.retries import read_retry_after
from registry_pipelines.registry.client.translate import quote
from registry_pipelines.registry.permissions import action_of

_THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
        "SlowDown",
        "EC2ThrottledException",
    }
)
_BY_CODE: dict[str, type[RegistryError]] = {
    "AccessDenied": Forbidden,
    "AuthorizationError": Forbidden,
    "UnauthorizedOperation": Forbidden,
    "AccessDeniedException": Forbidden,
    "UnrecognizedClientException": Unauthorized,
    "InvalidClientTokenId": Unauthorized,
    "InvalidSignatureException": Unauthorized,
    "SignatureDoesNotMatch": Unauthorized,
    "IncompleteSignature": Unauthorized,
    "MissingAuthenticationToken": Unauthorized,
    "MissingAuthenticationTokenException": Unauthorized,
    "ExpiredToken": Unauthorized,
    "ExpiredTokenException": Unauthorized,
    "RepositoryNotFoundException": NotFound,
    "UploadNotFoundException": NotFound,
    "InvalidLayerPartException": Refused,
    "LayerPartTooSmallException": Refused,
    "EmptyUploadException": Refused,
    "LimitExceededException": OverQuota,
    "KmsException": Refused,
    "InvalidParameterException": Refused,
    "UnknownOperationException": Unsupported,
    "ServerException": Unavailable,
    "InternalFailure": Unavailable,
    "ServiceUnavailable": Unavailable,
    "ServiceUnavailableException": Unavailable,
    "RequestTimeout": Unavailable,
}
_SESSION_GONE = frozenset({"UploadNotFoundException", "LayerPartTooSmallException", "EmptyUploadException"})
"""Codes by which this upload cannot be finished but a new one can; they get status 404, as of a lost session."""

_EXPIRED = "The session has expired: log in again, or name a `role` that is assumed anew by itself"
_DO_CODE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "UnrecognizedClientException": (
        "Check the AWS credentials: `aws sts get-caller-identity`; AWS says the same in a region that the account has "
        "not enabled, and in another partition (China, GovCloud, the European sovereign cloud)"
    ),
    "InvalidClientTokenId": "Check the AWS credentials: `aws sts get-caller-identity`; each partition has its own",
}
_DO: dict[type[RegistryError], str] = {
    Unauthorized: "Check the AWS credentials: `aws sts get-caller-identity`",
    Forbidden: "Give the caller the permission in IAM or in the repository's policy",
    NotFound: "Check the name; ECR makes repositories on push only where a creation template says so",
    OverQuota: "Delete images (a lifecycle policy), or raise the quota in Service Quotas",
    Unavailable: "Try again later",
}
LOG_IN = (
    "Log in as for the aws command (environment, profile, role), or give `username: AWS` and a password in the "
    "configuration"
)
"""What somebody without credentials does."""


def raise_translated(error: Exception, *, where: str, doing: str, service: str = "ecr") -> NoReturn:
    """Raise the error of ours. The original is not chained where its text had to be veiled: it may hold a secret."""
    text = str(error)
    ours = translate(error, where=where, doing=doing, service=service)
    raise ours from (error if quote(text) == text[:300] else None)


def is_read_timeout(error: BaseException | None) -> bool:
    """Whether boto3 waited for an answer in vain; by name, as below."""
    return type(error).__name__ == "ReadTimeoutError"


def error_code(error: Exception) -> str:
    """AWS's code of an answer, empty for everything that is no answer."""
    answer = getattr(error, "response", None)
    return str(answer.get("Error", {}).get("Code", "")) if isinstance(answer, dict) else ""


def translate(error: Exception, *, where: str, doing: str, service: str = "ecr") -> RegistryPipelinesError:
    """The error of ours for one of boto3's. ``doing``: what was asked, as ``opening an upload``. service: boto3's name
    of the one that was asked."""
    if isinstance(error, RegistryPipelinesError):
        return error
    if isinstance(getattr(error, "response", None), dict):
        return _translate_answer(error, error.response, where=where, doing=doing, service=service)  # type: ignore[attr-defined]
    names = {kind.__name__ for kind in type(error).__mro__}
    for local in _LOCAL:
        if local.name in names:
            return local.ours(f"{doing}: {local.said}", where=where, do=local.do)
    return RegistryError(f"{doing} failed in boto3 ({type(error).__name__}: {quote(str(error))})", where=where)


def _translate_answer(
    error: Exception, answer: Mapping[str, Any], *, where: str, doing: str, service: str
) -> RegistryPipelinesError:
    code = error_code(error)
    about = answer.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode") or 0)
    said = quote(str(answer.get("Error", {}).get("Message") or answer.get("message") or ""))
    what = f"{doing} was answered with {quote(code)}{f' ({said})' if said else ''}"
    wait = read_retry_after(about.get("HTTPHeaders", {}).get("retry-after"))
    if code in _THROTTLED or status == 429:
        do = "Ask less often, or raise the quota in Service Quotas"
        return RateLimited(what, where=where, do=do, retry_after_s=wait)
    if code == "InvalidLayerException":
        return DigestMismatch(what, where=where, do="The content changed on the way; send it again")
    kind = _BY_CODE.get(code) or _by_ending(code) or (Unavailable if status >= 500 else Refused)
    do = _allow(error, said, service) if kind is Forbidden else _DO_CODE.get(code) or _DO.get(kind, "")
    ours = kind(what, where=where, do=do, status=404 if code in _SESSION_GONE else status, code=code)
    if isinstance(ours, Unavailable):
        ours.retry_after_s = wait
    return ours


def _by_ending(code: str) -> type[RegistryError] | None:
    """Services name what does not exist after it; content that an image lacks is no such thing."""
    if code in ("LayersNotFoundException", "ReferencedImagesNotFoundException"):
        return Refused
    gone = code.endswith(("NotFoundException", "NotFound", "NotFoundFault", "DoesNotExist")) or "NoSuch" in code
    return NotFound if gone else None


_NOT_ALLOWED = re.compile(
    r"is not authorized to perform: (?P<action>[\w-]+:\w+)( on resource: (?P<resource>\S+))?(?P<why>.*)", re.DOTALL
)
"""How AWS says that something is not permitted (IAM user guide, "Troubleshoot access denied error messages")."""
_WHERE_IT_STANDS = {
    "service control policy": "; the organisation's service control policy forbids it",
    "resource control policy": "; the organisation's resource control policy forbids it",
    "permissions boundary": "; the caller's permissions boundary leaves it out",
    "session policy": "; the session's own policy leaves it out",
    "VPC endpoint policy": "; the policy of the VPC endpoint leaves it out",
    "resource-based policy": " in the policy of the repository or key",
    "identity-based policy": " in a policy of the caller",
}


def _allow(error: Exception, said: str, service: str) -> str:
    """The very action of IAM that is missing: the one that AWS names, else that of the call."""
    call = str(getattr(error, "operation_name", ""))
    if call.startswith("AssumeRole"):
        service = "sts"
    found = _NOT_ALLOWED.search(said)
    action = found["action"] if found else action_of("aws", call, service) if call else ""
    if not action:
        return _DO[Forbidden]
    place = f" on {found['resource']}" if found and found["resource"] else ""
    why = next((text for words, text in _WHERE_IT_STANDS.items() if found and words in found["why"]), "")
    explicit = " (an explicit deny there wins over every allow)" if found and "explicit deny" in found["why"] else ""
    return f"Allow {action}{place}{why or ' in IAM or in the policy of the repository'}{explicit}"


_SSO_LOGIN = "Run: aws sso login"


class _Local(msgspec.Struct, frozen=True):
    """What boto3 raises before or instead of an answer. name: of its class, or of one above it."""

    name: str
    ours: type[RegistryPipelinesError]
    said: str
    do: str = "Try again; check the network"


# By name and not by class: this module must be importable without boto3. The first that fits holds.
_LOCAL = (
    _Local("NoCredentialsError", Unauthorized, "there are no AWS credentials", LOG_IN),
    _Local("PartialCredentialsError", Unauthorized, "the AWS credentials are incomplete", LOG_IN),
    _Local("CredentialRetrievalError", Unauthorized, "AWS credentials could not be fetched", LOG_IN),
    _Local("UnauthorizedSSOTokenError", Unauthorized, "the AWS single sign-on has expired", _SSO_LOGIN),
    _Local("SSOTokenLoadError", Unauthorized, "there is no AWS single sign-on", _SSO_LOGIN),
    _Local("TokenRetrievalError", Unauthorized, "the AWS single sign-on could not be renewed", _SSO_LOGIN),
    _Local("LoginError", Unauthorized, "the AWS log-in has expired", _SSO_LOGIN),
    _Local("ProfileNotFound", InputError, "the AWS profile does not exist", "Correct `aws_profile` or AWS_PROFILE"),
    _Local("ConfigParseError", InputError, "AWS's own configuration file cannot be read", "Correct ~/.aws/config"),
    _Local("InvalidRegionError", InputError, "the region in the host name is none", "Correct the host name"),
    _Local("UnknownFIPSEndpointError", InputError, "the region has no FIPS endpoint", "Use the host without -fips"),
    _Local(
        "EndpointProviderError",
        InputError,
        "AWS has no such endpoint (FIPS and an own endpoint exclude each other)",
        "Check the host's region, AWS_ENDPOINT_URL and AWS_USE_FIPS_ENDPOINT",
    ),
    _Local(
        "ParamValidationError",
        InputError,
        "ECR's API does not take the names in the request",
        "ECR's repository names have 2 to 256 characters",
    ),
    _Local(
        "SSLError",
        TlsFailed,
        "the API's certificate is not trusted, or it does not speak TLS",
        "Name the authority's certificate in AWS_CA_BUNDLE",
    ),
    _Local("ReadTimeoutError", Stalled, "no byte moved for too long"),
    _Local("ConnectTimeoutError", Stalled, "connecting took too long"),
    _Local("ProxyConnectionError", Unavailable, "the proxy cannot be reached"),
    _Local("EndpointConnectionError", Unavailable, "ECR's API cannot be reached"),
    _Local("HTTPClientError", Unavailable, "the connection to ECR's API broke"),
    _Local("ResponseParserError", Unavailable, "the answer is not ECR's"),
)
