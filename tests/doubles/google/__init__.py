"""Google's cloud on this machine: its services from their own clients' types, by gRPC and REST, and its registries.

    with GoogleCloud(folder) as google:
        google.repository("ml-prod", "europe-west1", "models")
        plane = google.registry("europe-west1")      # EUROPE-WEST1-docker.pkg.dev at plane.address
        google.endpoint                               # REST, tokens and metadata: `endpoint:` of the configuration
        google.channel()                              # gRPC, for a client's transport

``services`` has one file per service; ``world`` who asks, what is denied and what fails; ``images`` what the registries
have, whichever door it came by; ``accounts`` where tokens come from; ``contract`` how requests and answers are checked.
At the end of the ``with`` block a double that answered wrongly fails the test.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from google.cloud import artifactregistry_v1

from registry_pipelines.oci.layout import Layout
from registry_pipelines.registry.embedded import Request, Response
from registry_pipelines.registry.embedded.http_server import HttpServer
from tests.doubles.google.accounts import AccountDoor
from tests.doubles.google.data_plane import DataPlane, message
from tests.doubles.google.described import DescribedDoor
from tests.doubles.google.doors import GrpcDoor, RestDoor
from tests.doubles.google.images import Held, Repositories
from tests.doubles.google.on_demand import OnDemandDoor
from tests.doubles.google.services import SERVICES
from tests.doubles.google.services.pubsub import PubSub, publish
from tests.doubles.google.storage import Storage, StorageDoor
from tests.doubles.google.world import Fault, Refusal, World

LEGACY = {"gcr.io": "us", "us.gcr.io": "us", "eu.gcr.io": "europe", "asia.gcr.io": "asia"}
"""Host of Container Registry and the location of the repository of its name that answers there."""


class GoogleCloud:
    """See the module. require_login: calls of the APIs without a token are refused."""

    def __init__(self, root: Path, *, require_login: bool = False) -> None:
        self.root = root
        self.world = World(require_login=require_login)
        self.images = self.world.state(Repositories)
        self.images.layouts, self.images.tell = self._layout, self._tell
        self._planes: list[DataPlane] = []
        self._grpc = GrpcDoor(self.world, SERVICES)
        self._rest_door = RestDoor(
            self.world, SERVICES, (DescribedDoor(self.world), StorageDoor(self.world), AccountDoor(self.world))
        )
        self._rest = HttpServer(self._answer)
        self._running = ExitStack()

    def __enter__(self) -> GoogleCloud:
        self._grpc.start()
        self._running.callback(self._grpc.stop)
        self._running.enter_context(self._rest)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()
        if kind is None and self.world.problems:
            raise AssertionError("\n".join(self.world.problems))
        if error is not None and self.world.problems:
            error.add_note("\n".join(self.world.problems))

    def _answer(self, request: Request) -> Response:
        """On-Demand Scanning has a host of its own, and operations as others have: here its door comes first."""
        return OnDemandDoor(self.world)(request) or self._rest_door(request)

    @property
    def endpoint(self) -> str:
        """``http://127.0.0.1:PORT`` of REST, of token services and of the metadata server."""
        return f"http://{self._rest.address}"

    @property
    def grpc_address(self) -> str:
        """Host and port of gRPC; also PUBSUB_EMULATOR_HOST."""
        return self._grpc.address

    def channel(self) -> grpc.Channel:
        """A channel to the gRPC door, closed with the double."""
        channel = grpc.insecure_channel(self.grpc_address)
        self._running.callback(channel.close)
        return channel

    def repository(self, project: str, location: str, name: str, **settings: Any) -> artifactregistry_v1.Repository:
        """A Docker repository that is there from the start; ``immutable=True`` for one with immutable tags."""
        if settings.pop("immutable", False):
            settings["docker_config"] = {"immutable_tags": True}
        return self.images.add(self.world, project, location, name, **settings)

    def registry(self, location: str, *, legacy: str = "") -> DataPlane:
        """The registry of a location, or with ``legacy`` the host of Container Registry of that name, started."""
        plane = DataPlane(
            self.world, self.root / f"plane-{len(self._planes)}", location=LEGACY.get(legacy, location), legacy=legacy
        )
        self._planes.append(plane)
        return self._running.enter_context(plane)  # type: ignore[return-value]

    def bucket(self, name: str) -> dict[str, tuple[str, bytes]]:
        """A bucket of Cloud Storage with nothing in it: name to media type and content."""
        return self.world.state(Storage).buckets.setdefault(name, {})

    def token(self, principal: str = "ci@ml-prod.iam.gserviceaccount.com") -> str:
        """An access token, as a log-in gave it."""
        return self.world.issue(principal)[0]

    def _layout(self, repository: str, image: str) -> Layout | None:
        return next((found for plane in self._planes if (found := plane.content(repository, image))), None)

    def _tell(self, action: str, held: Held, image: str, digest: str, tag: str) -> None:
        """To the topic ``gcr`` of the project, where it has one."""
        from google.pubsub_v1.types import PublishRequest, PubsubMessage

        topic = f"projects/{held.settings.name.split('/')[1]}/topics/gcr"
        if topic in self.world.state(PubSub).topics:
            data = message(held, action, image, digest, tag)
            publish(self.world, PublishRequest(topic=topic, messages=[PubsubMessage(data=data)]))


__all__ = ["LEGACY", "DataPlane", "Fault", "GoogleCloud", "Refusal", "World"]
