"""Google Artifact Registry: the distribution protocol, with Google's log-in and Artifact Registry's own API.

``registry`` is the client: the distribution client, whose deletions and lists of images go by ``images`` through
``calls``, the one caller of Google's APIs; ``failures`` makes errors of ours of what is raised there. ``access`` finds
credentials and makes Google's clients, ``defaults`` sees whether there are any without being told; ``hosts`` reads host
names and says what the API calls the same thing. Google's libraries are imported at the first use.

``registry.remote`` imports it; ``inventory``, ``infra``, ``lifecycle`` and ``events`` call Google through ``calls``.
"""
