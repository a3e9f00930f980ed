"""An index that is a folder of wheels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from registry_pipelines.build.find_links_page import archives
from registry_pipelines.build.packages.index import Advance
from registry_pipelines.build.packages.model import IndexRules
from registry_pipelines.build.packages.pages import Project, WheelFile, is_wheel_of
from registry_pipelines.build.wheel_store import WheelStore
from registry_pipelines.errors import NotFound, RequirementsInvalid


class FolderOfWheels:
    """See the module. identity: what it is, where the folder is only a copy (an artifact's digest); the folder unless
    told. carried: by file name, what was written of it where it was chosen, as a believed key signed it."""

    def __init__(
        self,
        name: str,
        rules: IndexRules,
        folder: Path,
        store: WheelStore,
        *,
        identity: str = "",
        carried: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.name, self.rules, self.folder = name, rules, folder
        self.identity = identity or str(folder)
        self._store, self._carried = store, carried or {}

    def carried(self, filename: str) -> Mapping[str, str]:
        """See ``OpenIndex``."""
        return self._carried.get(filename, {})

    def project(self, name: str) -> Project | None:
        """Its wheels of a project; None without any. Raises RequirementsInvalid for a folder that cannot be read."""
        paths = [path for path in archives(self.folder) if path.suffix == ".whl" and is_wheel_of(path.name, name)]
        if not paths:
            return None
        try:
            files = [
                WheelFile(
                    filename=path.name,
                    url=path.absolute().as_uri(),
                    hashes={"sha256": self._store.sha256(path)},
                    size=path.stat().st_size,
                )
                for path in paths
            ]
        except OSError as error:
            raise RequirementsInvalid(
                f"a wheel of {name} cannot be read: {error.strerror or error}",
                where=str(self.folder),
                do="Repair the folder",
            ) from error
        return Project(name=name, files=tuple(files))

    def take(self, file: WheelFile, store: WheelStore, scratch: Path, advance: Advance) -> str:
        """Have a file in the store, as a link. See ``HttpIndex``."""
        path = self.folder / file.filename
        try:
            return store.link(path, file.filename)
        except OSError as error:
            raise RequirementsInvalid(
                f"the wheel cannot be read: {error.strerror or error}", where=str(path), do="Repair the folder"
            ) from error

    def document(self, url: str, limit: int, doing: str) -> bytes:
        """A folder has nothing beside its wheels."""
        raise NotFound(doing, where=str(self.folder))

    def location(self, file: WheelFile) -> str:
        """Nobody else can follow a path of this machine."""
        return ""

    def close(self) -> None:
        """Nothing is open."""

    def __str__(self) -> str:
        return f"{self.name} ({self.folder})"


__all__ = ["FolderOfWheels"]
