"""Who runs what: the images that clouds run now, by digest where they say it, with where and since when.

``model`` has the protocol ``UsageSource`` and what it gives, ``config.usage`` what the configuration says of one,
``chain.usage_sources`` opens it. ``ecs``, ``functions`` (Lambda), ``sagemaker``, ``inspector``, ``pulls`` are AWS's,
``cloud_run`` and ``vertex`` Google's, over REST (``google_rest``), for their clients are large.

``kubernetes`` asks a cluster's API server (``kube_access``: how it is reached; ``kube_api``: its lists; ``workloads``:
images in its objects). ``containerd`` and ``docker_hosts`` ask hosts (``containerd_api``: gRPC without generated code).
``files`` keeps answers, and reads what was kept.

A source that does not answer raises: nothing is deleted then that it could have spoken of. ``chain.usage`` asks them,
``chain.running`` makes digests of a registry of what they say.
"""
