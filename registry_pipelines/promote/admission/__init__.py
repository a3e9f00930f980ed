"""What may start in clusters, by the same gate: a webhook for API servers, and policies for other programs.

- ``model``: what the configuration says. ``judging``: the rules about an object; ``rulings`` asks the gate about one
  digest, ``inventory.usage.workloads`` finds images in objects, ``kept`` keeps answers
- ``review`` reads and writes AdmissionReview v1, ``webhook`` answers it over TLS
- ``configurations``: the objects that make an API server ask

``chain.admission`` brings it together with a configuration.
"""
