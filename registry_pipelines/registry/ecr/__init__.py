"""Amazon ECR: the distribution protocol, with log-in and uploads by ECR's own API. ``EcrRegistry`` is the door.

``registry`` is the client: the distribution client, with ``uploads`` (parts that a killed run can go on with) in place
of its own. ``access`` finds credentials and makes clients of boto3, which is imported at the first call; ``calls`` is
the one place that makes calls of any AWS API, ``api`` what uploads and log-ins need of it, ``images`` lists and batches
of images; ``failures`` makes errors of ours of what boto3 raises; ``hosts`` reads account and region from a host's
name. ``registry.remote`` imports the client; stages that ask AWS's APIs import ``access``, ``calls`` and ``images``.
"""
