"""How clusters behind the gap find what a mirror brought under the names that it had: files for containerd, k3s,
OpenShift, Docker, podman and CRI-O.

``model`` says what a form is made from: the private registry as a node reaches it, and which name became which
repository there. Each form has one file, ``forms`` knows them all. Nothing here asks a registry, and no file holds an
account or a password. ``chain.clusters`` calls this room.
"""
