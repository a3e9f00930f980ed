"""The Dagster code location: thin assets, checks, sensors and schedules around ``registry_pipelines.chain``.

No module here uses ``from __future__ import annotations``: Dagster 1.13 refuses a ``context`` whose annotation is text.
"""
