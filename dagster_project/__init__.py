"""The Dagster code location: thin assets, checks, sensors and schedules around ``registry_pipelines.chain``.

``definitions`` makes everything from one configuration; ``assets`` has a module for each stage. A function here reads,
calls one method of the chain (``resources``) and shows what came back (``report``, ``checks``). ``partitions`` are the
releases that sensors find (``sensors``, with their ``memory``); ``schedules`` has jobs and when they run; ``together``
makes one plan of the copies of a run. ``demo`` runs all of it in one process, with the
instance of ``one_process``. Nothing here decides what ships, and the library imports none of it.

No module here uses ``from __future__ import annotations``: Dagster 1.13 refuses a ``context`` whose annotation is text.
"""
