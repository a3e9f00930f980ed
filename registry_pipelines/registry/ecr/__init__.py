"""Amazon ECR: the distribution protocol, with log-in and uploads by ECR's own API. ``EcrRegistry`` is the door.

``registry`` is the client: the distribution client, with ``uploads`` (parts that a killed run can go on with) in place
of its own. ``api`` makes the calls through boto3, which is imported at the first call; ``failures`` makes errors of
ours of what it raises; ``hosts`` reads account and region from a host's name. ``registry.remote`` imports it,
nobody else.
"""
