"""From what a configuration says of an index to one that can be asked. Asked is nothing yet, but pip for its settings
and AWS for the address of a repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from registry_pipelines.build.packages.folders import FolderOfWheels
from registry_pipelines.build.packages.index import RETRIES, HttpIndex
from registry_pipelines.build.packages.kept_pages import KeptPages
from registry_pipelines.build.packages.logins import Login, nobody, of_this_machine
from registry_pipelines.build.packages.model import (
    ArtifactIndex,
    CodeArtifactIndex,
    FolderIndex,
    GarIndex,
    PackageIndex,
    PipIndex,
    Reached,
    SimpleIndex,
)
from registry_pipelines.build.packages.sources import OpenIndex
from registry_pipelines.build.packages.web import Site
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import InputError, LocalError
from registry_pipelines.registry.client.credentials import Credentials
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.transport import Timeouts
from registry_pipelines.threads import run_child

PIP_ANSWERS_S = 120.0
"""pip reads its settings in half a second; a cold disk under load takes longer."""

TIMEOUTS = Timeouts(connect_s=15.0, stall_s=60.0)

_ASK_PIP = """\
from pip._internal.commands import create_command
print(create_command("download").parse_args([])[0].index_url)
"""

Said = Callable[[str], object]


@dataclass(frozen=True)
class CarriedWheels:
    """Wheels of an artifact in a folder. digest: the artifact's. origins: see ``FolderOfWheels``."""

    folder: Path
    digest: str
    origins: Mapping[str, Mapping[str, str]]


class Opener:
    """Opens indexes. state: folder of builds (``<state>/build``). artifact: brings an artifact's wheels here. said:
    gets what is to be told of an index."""

    def __init__(
        self,
        state: Path,
        store: WheelStore,
        *,
        artifact: Callable[[str], CarriedWheels] | None = None,
        said: Said = lambda _: None,
        retries: Retries | None = None,
    ) -> None:
        self.pages, self.documents = state / "packages" / "pages", state / "packages" / "documents"
        self._store, self._artifact, self._said = store, artifact, said
        self._retries = retries or RETRIES

    def open(self, settings: PackageIndex) -> OpenIndex:
        """An index that can be asked. Raises InputError, ToolMissing, LocalError, and what a cloud's API raises."""
        match settings:
            case FolderIndex():
                return FolderOfWheels(settings.name, settings, settings.folder, self._store)
            case ArtifactIndex():
                if self._artifact is None:
                    raise InputError("artifacts are read with a configuration alone", where=settings.name)
                there = self._artifact(settings.artifact)
                return FolderOfWheels(
                    settings.name, settings, there.folder, self._store, identity=there.digest, carried=there.origins
                )
            case SimpleIndex():
                upload = Login(nobody) if settings.upload is None else _login(settings, settings.upload)
                return self._over_http(
                    settings, settings.url, _login(settings, settings.url), settings.upload or "", upload
                )
            case PipIndex():
                url, own = index_of_pip()
                return self._over_http(settings, url, _login(settings, url, own))
            case GarIndex():
                return self._over_http(
                    settings, f"{settings.base}/simple/", Login(_google(settings)), f"{settings.base}/"
                )
            case CodeArtifactIndex():
                url, login = _codeartifact(settings)
                return self._over_http(settings, f"{url}simple/", login, url)

    def _over_http(
        self,
        settings: SimpleIndex | PipIndex | GarIndex | CodeArtifactIndex,
        url: str,
        login: Login,
        uploads: str = "",
        upload_login: Login | None = None,
    ) -> HttpIndex:
        ca_file = settings.ca_file if isinstance(settings, Reached) else None

        def site_of(address: str, login: Login) -> Site:
            return Site(address, settings.name, login, ca_file=ca_file, retries=self._retries, timeouts=TIMEOUTS)

        site, upload = site_of(url, login), site_of(uploads, upload_login or login) if uploads else None
        kept = KeptPages(self.pages, url)
        return HttpIndex(
            settings.name, settings, site, kept=kept, uploads=upload, said=self._said, retries=self._retries
        )


def _login(settings: Reached, url: str, own: Credentials | None = None) -> Login:
    def find() -> Credentials:
        if own and not own.anonymous and not settings.password:
            return own
        return of_this_machine(
            url,
            username=settings.username,
            password=settings.password.reveal(),
            keyring=settings.keyring,
            netrc_file=settings.netrc,
        )

    return Login(find)


def index_of_pip() -> tuple[str, Credentials]:
    """The index that pip of this machine is configured with, by its files and ``PIP_INDEX_URL``, else its own default;
    without the log-in that may stand in it, which comes beside. Raises LocalError, InputError."""
    try:
        done = run_child([sys.executable, "-c", _ASK_PIP], timeout_s=PIP_ANSWERS_S, env=dict(os.environ))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LocalError(f"pip did not say which index it is configured with: {error}") from error
    text = done.stdout.decode(errors="replace").strip()
    parts = urlsplit(text) if done.returncode == 0 and re.fullmatch(r"https?://\S+", text) else None
    if parts is None or not parts.hostname:
        raise InputError(
            "pip is configured with no index that can be asked",
            where="packages",
            do="See `pip config list`, or name the index with `kind: simple` and its `url`",
        )
    own = Credentials(unquote(parts.username or ""), unquote(parts.password or ""))
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/", "", "")), own


def _google(settings: GarIndex) -> Callable[[], Credentials]:
    from registry_pipelines.registry.gar.access import GoogleAccess  # those who have such an index need it

    access = GoogleAccess(
        project=settings.project,
        location=settings.location,
        credentials_file=settings.credentials,
        impersonate=settings.impersonate,
    )
    return access.find


def _codeartifact(settings: CodeArtifactIndex) -> tuple[str, Login]:
    """The address of a repository, with a slash at the end, and its log-in: a token of 12 hours at most."""
    from registry_pipelines.registry.ecr.access import AwsAccess
    from registry_pipelines.registry.ecr.calls import AwsCalls

    calls = AwsCalls(
        AwsAccess(
            region=settings.region,
            profile=settings.profile,
            role=settings.role,
            external_id=settings.external_id,
            endpoint=settings.endpoint or "",
        )
    )
    where = f"package index {settings.name} ({settings.domain} of {settings.owner} in {settings.region})"

    def find() -> Credentials:
        answer = calls.call(
            "get_authorization_token",
            service="codeartifact",
            where=where,
            domain=settings.domain,
            domainOwner=settings.owner,
        )
        ends = answer["expiration"].timestamp() - RENEW_EARLY_S
        return Credentials("aws", str(answer["authorizationToken"]), use_until=ends)

    answer = calls.call(
        "get_repository_endpoint",
        service="codeartifact",
        where=where,
        repository=settings.repository,
        format="pypi",
        domain=settings.domain,
        domainOwner=settings.owner,
    )
    return f"{str(answer['repositoryEndpoint']).rstrip('/')}/", Login(find)


RENEW_EARLY_S = 300.0
"""A token is renewed this long before its end."""


__all__ = ["CarriedWheels", "Opener", "index_of_pip"]
