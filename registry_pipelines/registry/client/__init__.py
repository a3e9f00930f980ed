"""The client of OCI distribution registries. ``DistributionRegistry`` is the door, made by ``registry.remote``.

``distribution`` knows which request serves which question; ``manifests`` reads and stores those, ``deleting`` deletes,
blobs go out by ``uploads`` and come in by ``reader`` and ``sizes``; ``referrers``, ``listing`` and ``names`` read
lists, under ``locks`` where a list is written. ``exchange`` sends a request: with a token (``tokens``, ``challenges``,
``credentials``, ``auth_files``), along ``redirects``, again as ``retries`` says; ``translate`` and ``words`` make an
error of what failed. ``transport`` keeps connections, each of which sends a request and reads its answer
(``connection``, ``wire``, ``response``, ``proxies``, ``origins``, ``networks``). ``facts`` and ``probing`` remember
what a registry does, ``announced`` and ``quotas`` read headers.

``ecr`` builds on it. Other rooms import the door, and of the modules constants and plain readers (``redirects``,
``quotas``, ``uploads``).
"""

from registry_pipelines.registry.client.distribution import DistributionRegistry
from registry_pipelines.registry.client.retries import Retries
from registry_pipelines.registry.client.transport import Timeouts

__all__ = ["DistributionRegistry", "Retries", "Timeouts"]
