"""Wheels to an index, by the upload API that twine speaks ("legacy" in PyPA's words; the metadata as form fields).

Publishing again is no error: what is there with the same content stays as it is, and another content under one name is
never sent. Attestations (PEP 740) go along where they lie beside a wheel, as ``NAME.whl.publish.attestation``.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.metadata import parse_email
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion

from registry_pipelines.build.find_links_page import read_metadata
from registry_pipelines.build.packages.attestations import check_attestation
from registry_pipelines.build.packages.folders import FolderOfWheels
from registry_pipelines.build.packages.index import HttpIndex
from registry_pipelines.build.packages.pages import WheelFile
from registry_pipelines.build.packages.sources import OpenIndex
from registry_pipelines.build.packages.web import Asking, Site
from registry_pipelines.build.wheel_store import WheelStore, read_sha256
from registry_pipelines.errors import InputError, Refused, RegistryError, Unavailable, WheelInvalid
from registry_pipelines.oci.files import replaced
from registry_pipelines.registry.protocol import BUFFER_BYTES

MAX_ATTESTATION_BYTES = 1024**2
ATTESTATIONS = ("publish", "slsa")
"""Names of attestations beside a wheel (pypi-attestations, twine): ``WHEEL.publish.attestation``."""

ANSWER_S = 600.0
"""An index stores and looks at a wheel of gigabytes before it answers."""


@dataclass(frozen=True)
class Wheel:
    """A wheel to publish. sha256: 64 hex digits. fields: of its METADATA, as the form has them."""

    path: Path
    name: str
    """Normalised."""
    version: str
    sha256: str
    size: int
    fields: tuple[tuple[str, str], ...]
    attestations: tuple[Any, ...] = ()


def read_wheel(path: Path) -> Wheel:
    """A wheel with its metadata and the attestations beside it. Raises WheelInvalid, InputError."""
    try:
        name, version, _, tags = parse_wheel_filename(path.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise InputError(
            "it has no wheel's name", where=str(path), do="Publish what `pip wheel` or `build` made"
        ) from error
    raw = read_metadata(path)
    if raw is None:
        raise WheelInvalid("it has no METADATA that can be read", where=str(path), do="Build it again")
    found, _ = parse_email(raw)
    told = str(canonicalize_name(found.get("name") or "")), found.get("version") or ""
    if told[0] != str(name) or not told[1]:
        raise WheelInvalid(f"its METADATA is of {told[0]!r} {told[1]!r}", where=str(path), do="Build it again")
    sha256 = read_sha256(path)
    python = "-".join(dict.fromkeys(path.name.removesuffix(".whl").split("-")[-3].split(".")))
    fields = [(":action", "file_upload"), ("protocol_version", "1"), ("filetype", "bdist_wheel")]
    fields += [("pyversion", python.replace("-", ".")), ("sha256_digest", sha256), *_form(found)]
    attestations = tuple(_attestations(path, sha256))
    if attestations:
        fields.append(("attestations", json.dumps(list(attestations))))
    del version, tags
    return Wheel(path, told[0], told[1], sha256, path.stat().st_size, tuple(fields), attestations)


def _form(found: Any) -> Iterator[tuple[str, str]]:
    """Metadata as fields: a list is a field for each, keywords are one, addresses of a project one for each."""
    for name, value in sorted(found.items()):
        if name == "keywords":
            yield name, ", ".join(value)
        elif name == "project_urls":
            yield from (("project_urls", f"{label}, {url}") for label, url in value.items())
        elif isinstance(value, list):
            yield from (({"license_files": "license_file"}.get(name, name), str(each)) for each in value)
        else:
            yield name, str(value)


def _attestations(path: Path, sha256: str) -> Iterator[Any]:
    for kind in ATTESTATIONS:
        file = path.with_name(f"{path.name}.{kind}.attestation")
        if not file.is_file():
            continue
        if file.stat().st_size > MAX_ATTESTATION_BYTES:
            raise InputError(f"it has more than {MAX_ATTESTATION_BYTES} bytes", where=str(file))
        raw = file.read_bytes()
        check_attestation(raw, filename=path.name, sha256=sha256, where=str(file))
        yield json.loads(raw)


def there(index: OpenIndex, wheel: Wheel, store: WheelStore, scratch: Path) -> bool:
    """Whether an index has this very file. Raises Refused where it has another content under its name, and what asking
    raises. store: where a file goes that has no sha256 at its index."""
    project = index.project(wheel.name)
    for file in project.files if project else ():
        if file.filename == wheel.path.name:
            sha256 = file.sha256 or index.take(file, store, scratch, lambda _: None)
            if sha256 == wheel.sha256:
                return True
            raise Refused(
                f"{index.name} has another content under this name, sha256 {sha256} and not {wheel.sha256}",
                where=wheel.path.name,
                do="Give the package a new version: what was published is never replaced",
            )
    return False


def publish(index: OpenIndex, wheel: Wheel, store: WheelStore, scratch: Path) -> bool:
    """Have a wheel at an index; whether it was sent. Raises Refused (another content there, or the index's own word),
    InputError for an index that nothing is published to, Unauthorized, Forbidden, Unavailable."""
    if there(index, wheel, store, scratch):
        return False
    if isinstance(index, FolderOfWheels):
        target = index.folder / wheel.path.name
        with replaced(target) as temporary:
            shutil.copyfile(wheel.path, temporary)
        return True
    if not isinstance(index, HttpIndex) or index.uploads is None:
        raise InputError(f"nothing can be published to {index.name}", where="packages", do="Write its `upload` address")
    for attempt in range(1, UPLOADS + 1):
        try:
            _send(index.uploads, wheel)
            return True
        except (RegistryError, Unavailable) as error:
            # An index that has it now has it from the attempt that seemed to fail, or from somebody else meanwhile.
            if (isinstance(error, Unavailable) or error.status in (400, 409)) and there(index, wheel, store, scratch):
                return True
            if not isinstance(error, Unavailable) or attempt == UPLOADS or not index.wait(error, attempt):
                raise _refused(error) from error
    return True


UPLOADS = 3
"""Attempts for one file."""


def _refused(error: RegistryError) -> RegistryError:
    if error.status in (400, 409, 413, 422):
        do = "See what the index says; it may refuse names, versions or sizes"
        return Refused(error.what, where=error.where, do=do, status=error.status)
    return error


def _send(uploads: Site, wheel: Wheel) -> None:
    body = _Form(wheel)
    headers = {"Content-Type": f"multipart/form-data; boundary={body.boundary}"}
    asking = Asking(
        uploads.base,
        f"publishing {wheel.path.name}",
        method="POST",
        headers=headers,
        body=body,
        own=True,
        expect=(201, 202, 204),
        answer_s=ANSWER_S,
    )
    with uploads.ask(asking) as response:
        response.read(BUFFER_BYTES)


class _Form:
    """Form fields and the file, streamed (RFC 7578). See ``registry.client.connection.Body``."""

    def __init__(self, wheel: Wheel) -> None:
        self.boundary = uuid.uuid4().hex
        self._path = wheel.path
        self._head = (
            b"".join(self._field(name, value) for name, value in wheel.fields)
            + (
                f"--{self.boundary}\r\n"
                f'Content-Disposition: form-data; name="content"; filename="{wheel.path.name}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
            ).encode()
        )
        self._end = f"\r\n--{self.boundary}--\r\n".encode()
        self.size = len(self._head) + wheel.size + len(self._end)

    def _field(self, name: str, value: str) -> bytes:
        head = f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
        return f"{head}{value}\r\n".encode()

    def rewind(self) -> bool:
        """It begins anew each time."""
        return True

    def chunks(self) -> Iterator[memoryview]:
        """Fields, the file in pieces, the end."""
        yield memoryview(self._head)
        with self._path.open("rb") as file:
            while piece := file.read(BUFFER_BYTES):
                yield memoryview(piece)
        yield memoryview(self._end)


def wheels_of(places: Sequence[Path]) -> list[Path]:
    """Wheels that paths name: files, and all of folders, sorted. Raises InputError for none."""
    found: list[Path] = []
    for place in places:
        found += sorted(place.glob("*.whl")) if place.is_dir() else [place]
    missing = [str(path) for path in found if not path.is_file()]
    if missing or not found:
        raise InputError(
            f"there is no wheel {missing[0]}" if missing else "there is no wheel",
            where=", ".join(map(str, places)),
            do="Name wheels, or folders that have some",
        )
    return found


def offered(index: OpenIndex, name: str, filename: str) -> WheelFile | None:
    """What an index says of a file; None where it has none."""
    project = index.project(name)
    return next((file for file in project.files if file.filename == filename), None) if project else None


__all__ = ["Wheel", "offered", "publish", "read_wheel", "there", "wheels_of"]
