"""Roll-outs of promoted releases to Cloud Run and clusters of Kubernetes, and what is read back of them.

``model`` is what the configuration says of a deployment; ``platform`` what the two places have in common, and
``rollout`` what is done with either: change the image by digest, wait, read back what runs, go back where that fails.
``cloud_run`` and ``kubernetes`` ask the platforms (``kube_status``, ``kube_pods``: what a workload and its pods say),
``eks`` and ``gke`` find a cluster's API server. ``record`` is the signed document of a roll-out, which gates and
``collect`` read. Imported by ``chain``, and ``record`` by ``promote``.
"""
