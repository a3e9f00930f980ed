"""How long a blob is, from registries that say it in different ways."""

from __future__ import annotations

from registry_pipelines.errors import RegistryError
from registry_pipelines.oci.digest import Digest
from registry_pipelines.registry.client.exchange import Call, Exchange
from registry_pipelines.registry.client.reader import read_content_range
from registry_pipelines.registry.client.response import Response
from registry_pipelines.registry.client.tokens import pull
from registry_pipelines.registry.protocol import BUFFER_BYTES


def blob_size(exchange: Exchange, repository: str, digest: Digest) -> int | None:
    """Bytes of a blob, None when it is not there.

    One HEAD where that is answered with a length (a MAY, RFC 9110 section 9.3.2). Registries in front of an object
    store sign the address for GET alone, so whatever the store answers to a HEAD says nothing (S3: 403); some refuse
    HEAD (405, 501), some say 0. Then a GET of one byte tells: its Content-Range has the whole length. Where even that
    is missing, the blob is read and counted.
    """
    where = f"{exchange.name}/{repository}@{digest}"
    url, scopes, doing = f"/v2/{repository}/blobs/{digest}", pull(repository), "asking for a blob"
    response = exchange.run(Call("HEAD", url, scopes, where, doing, (200, 404, 405, 501), elsewhere=True))
    length = response.header("Content-Length")
    if response.status == 200 and length.isdigit() and (int(length) or digest == Digest.of(b"", digest.algorithm)):
        return int(length)
    if response.status == 404 and not exchange.is_elsewhere(response):
        return None
    for headers in ({"Range": "bytes=0-0"}, None):
        with exchange.send(Call("GET", url, scopes, where, doing, (200, 206, 404, 416), headers)) as got:
            if got.status == 404:
                return None
            size = _size(got)
            if size is not None:
                return size
            if headers is None and got.status == 200:
                return _count(got)
    raise RegistryError("the registry does not say how long the blob is", where=where)


def _size(response: Response) -> int | None:
    if response.status == 200:
        return response.length
    content_range = read_content_range(response)
    if content_range is None:
        return None
    return content_range.size


def _count(response: Response) -> int:
    buffer, total = memoryview(bytearray(BUFFER_BYTES)), 0
    while count := response.readinto(buffer):
        total += count
    return total
