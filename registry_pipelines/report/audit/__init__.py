"""Who pushed, deleted, pulled and changed settings: what the logs of registries say, in one schema.

``model`` has one :class:`~registry_pipelines.report.audit.model.Event` and what may explain it; the readers of logs
(``events.cloudtrail``, ``events.google_audit``, ``events.access_log``, ``events.notifications``) make them of bytes.
``store`` keeps them as Parquet, a file a day, each event once and in the order of time. ``alerts`` holds them against
what is signed: channels that moved, images that went, pushes of strangers. ``acknowledged`` has who said that an alert
is no harm, signed. ``settings`` is what a configuration says of it all.

Pure but for files; ``chain.audit`` asks the sources, and finds the evidence.
"""
