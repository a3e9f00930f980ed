"""What runs a Dockerfile: one file for each engine, and what they have in common.

- ``protocol``: what an engine is asked, and what it gives back
- ``buildx``, ``buildctl``: BuildKit (``buildkit`` is what they have in common, ``rawjson`` reads its progress)
- ``buildah``: without a daemon
- ``docker``: the classic engine (``sent_context`` is the tar it gets, ``saved`` what it gives back)
- ``failures``: errors, ``process``: programs that end in time, ``written``: layouts of our own
"""
