"""Google Artifact Registry: the distribution protocol, with Google's log-in.

``access`` finds credentials and makes clients of Google's APIs; the libraries are imported at the first use.
``registry.remote`` imports it, nobody else.
"""
