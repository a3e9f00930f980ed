"""Images on a node, under container runtimes that nobody changed: what containerd asks a snapshotter for.

- ``lazy_images`` says what an image must offer to be served before it is fetched
"""
