"""What a registry really does, tried out with a few bytes. Sources contradict each other, so each place is asked."""

from __future__ import annotations

import contextlib

from registry_pipelines.errors import Refused, RegistryError, Unavailable, Unsupported
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.facts import Facts
from registry_pipelines.registry.client.tokens import pull
from registry_pipelines.registry.client.uploads import Uploads

PROBE_BYTES = 1024
"""A chunk of the probe, unless the registry asks for larger ones."""

MAX_PROBE_CHUNK_BYTES = 32 * 1024 * 1024
"""A registry that wants larger chunks is not probed with them."""


def probe_chunks(uploads: Uploads, facts: Facts, repository: str) -> None:
    """Open an upload, send two chunks, cancel it: nothing stays. Learns ``chunked_upload`` and what its status says.

    Needs the right to push. Raises the RegistryError family when the upload cannot be opened or the answer is unclear.
    """
    session = uploads.begin(repository)
    size = max(PROBE_BYTES, session.min_chunk_bytes)
    try:
        if size > MAX_PROBE_CHUNK_BYTES:
            facts.learn(repository, note=f"chunks have at least {size} bytes")
            return
        chunk = memoryview(bytes(size))
        uploads.append(session, chunk)
        uploads.append(session, chunk)
        if uploads.offset(session) != session.offset:
            facts.learn(repository, note="the upload status stands still; a lost chunk restarts the upload")
    except Unavailable:
        raise
    except (Refused, Unsupported) as error:
        facts.learn(repository, chunked_upload=False, note=f"a second chunk got HTTP {error.status}")
    finally:
        with contextlib.suppress(RegistryError):
            uploads.cancel(session)


def probe_ranges(exchange: Exchange, facts: Facts, repository: str, digest: Digest) -> None:
    """Read the second byte of a blob that is there. Learns ``range_reads``."""
    where = f"{exchange.name}/{repository}@{digest}"
    url = f"/v2/{repository}/blobs/{digest}"
    call = Call("GET", url, pull(repository), where, "reading a range", (200, 206), {"Range": "bytes=1-1"})
    facts.learn(repository, range_reads=exchange.run(call).status == 206)
