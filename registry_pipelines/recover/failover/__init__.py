"""Fail-over: which registry is asked first, whether the others have what runs, and what names lead where.

``model`` is what the configuration says of it; ``health`` asks registries whether they answer, ``order`` says which is
asked when, ``dns`` what a name server would be told. The files for nodes are ``mirror.clusters``', over an order that
``chain.failover`` made. Nothing here changes a cloud. ``drill`` tries it with real clients.
"""
