"""Numbers about registries for the programs that draw and alarm: CloudWatch, Cloud Monitoring, Prometheus, and whatever
takes OpenTelemetry.

``model`` is a sample and the bound on their number; ``stored`` counts an inventory; each exporter (``prometheus``,
``cloudwatch``, ``monitoring``, ``otel``) turns samples into what its program takes, within its limits, and sends
nothing: who does is ``chain.metrics``, which also collects. ``dashboards`` and ``rules`` are made from one table each.
``prometheus`` is the one writer of that format here, for ``node``, too. Names are in ``registry_pipelines.measures``.
"""
