"""What registries of the clouds tell by themselves: pushes, deletions, scans, replications.

``model`` has the events as typed values. ``eventbridge`` reads those of Amazon ECR and Inspector, ``gcr_topic`` those
of Google Artifact Registry and Artifact Analysis: pure functions of bytes. ``source`` is the protocol of a queue that
they lie in, ``sqs`` and ``pubsub`` are the two there are, ``config.events`` what a configuration says of them. ``told``
keeps what was told last about scans and replications, ``aside`` what nobody could read.

Logs that say who did it are read here, too, as events of ``report.audit``: ``cloudtrail`` (records), ``cloudtrail_api``
and ``cloudtrail_files`` (where they lie), ``google_audit``, ``notifications`` of docker-registry with what receives
them, ``access_log`` of the embedded registry; ``heard`` keeps what queues told, ``line_files`` reads files that grow.
Only ``chain.audit_sources`` opens them.

Events are hints: best effort, doubled, out of order, and anybody who may write to the queue can make one up. Nothing is
believed of a push but that it is time to ask the registry, and registries are listed all the same now and then: by
``chain.events``.
"""
