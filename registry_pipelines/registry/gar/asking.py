"""One call of Google's libraries, with our retries and errors of ours.

Codes: ``google.api_core.exceptions``, by class name and HTTP status, so that nothing of it is imported to be compared
with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from registry_pipelines.errors import (
    Forbidden,
    NotFound,
    RateLimited,
    Refused,
    RegistryError,
    RegistryPipelinesError,
    Stalled,
    Unauthorized,
    Unavailable,
)
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.translate import quote

ANSWER_S = 60.0
"""How long one answer may take."""

_BY_STATUS: dict[int, type[RegistryError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound}
_DO: dict[type[RegistryError], str] = {
    Unauthorized: "Log in: gcloud auth application-default login; or name a file in `credentials`",
    Forbidden: "Give the caller the role that has this permission",
    NotFound: "Check the name and the project",
    Unavailable: "Try again later",
}


def ask(
    method: Callable[..., Any],
    *,
    where: str,
    doing: str,
    retries: Retries | None = None,
    answer_s: float = ANSWER_S,
    **values: Any,
) -> Any:
    """Call a method of a client, without the library's own repetitions: two that multiply hide throttling. values: the
    method's own. Raises the RegistryError family."""
    retries = retries or Retries()
    attempt = 1
    while True:
        try:
            return method(retry=None, timeout=answer_s, **values)
        except Exception as error:
            ours = translate(error, where=where, doing=doing)
            if not retries.wait(ours, attempt):
                _raise(ours, error)
            attempt += 1


def _raise(ours: RegistryPipelinesError, error: Exception) -> NoReturn:
    text = str(error)
    raise ours from (error if quote(text) == text[:300] else None)


def translate(error: Exception, *, where: str, doing: str) -> RegistryPipelinesError:
    """The error of ours for one of Google's. doing: what was asked, as ``receiving messages``."""
    if isinstance(error, RegistryPipelinesError):
        return error
    names = {kind.__name__ for kind in type(error).__mro__}
    said = quote(str(getattr(error, "message", "") or error))
    what = f"{doing} failed: {type(error).__name__}{f' ({said})' if said else ''}"
    if "GoogleAPICallError" in names:
        return _of_status(int(getattr(error, "code", 0) or 0), names, what, where)
    if "RefreshError" in names or "DefaultCredentialsError" in names:
        return Unauthorized(f"{doing}: Google gave no token", where=where, do=_DO[Unauthorized])
    if names & {"Timeout", "RetryError", "DeadlineExceeded"}:
        return Stalled(f"{doing}: no answer in time", where=where, do=_DO[Unavailable])
    if names & {"TransportError", "RequestException", "ConnectionError"}:
        return Unavailable(f"{doing}: Google's API cannot be reached", where=where, do=_DO[Unavailable])
    return RegistryError(what, where=where)


def _of_status(status: int, names: set[str], what: str, where: str) -> RegistryPipelinesError:
    if status == 429:
        return RateLimited(what, where=where, do="Ask less often, or raise the quota")
    if "DeadlineExceeded" in names:
        return Stalled(what, where=where, do=_DO[Unavailable])
    kind = _BY_STATUS.get(status) or (Unavailable if status >= 500 else Refused)
    return kind(what, where=where, do=_DO.get(kind, ""), status=status)
