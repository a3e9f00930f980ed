"""AWS on loopback: a front door that answers the operations we own, and moto's server behind it for all others.

``front`` is the door (``AwsDouble``): signatures, principals, faults, both directions held against botocore's models.
``table`` lists the areas that answer, one file each; an area is a class of ``do_<Operation>`` methods (``front.Area``).
``ecr`` adds what ECR has beside its API: the distribution protocol in front of a real registry (``EcrDouble``).

A further service or operation: a class in a file of its own here, and its line in ``table.AREAS``. What neither an area
nor moto has is answered with 400 UnknownOperationException; moto alone says 500 and HTML, which boto3 tries again.
"""
