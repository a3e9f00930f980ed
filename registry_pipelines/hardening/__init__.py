"""What keeps a running deployment safe, looked at from outside (``harden-check``, docs/hardening.md).

- ``model`` is a rule, and what was found of it
- ``asking`` one HTTP request as a stranger, or as somebody, would send it
- ``webservers`` Dagster's webservers and the proxy before them
- ``services`` the broker, the shared database
- ``files`` keys, the configuration, the state folder, the user
- ``doors`` registries and the admission webhook: TLS, and who may write

Nothing is changed; what cannot be looked at is no pass. :mod:`registry_pipelines.chain.hardening` goes through all of a
configuration.
"""
