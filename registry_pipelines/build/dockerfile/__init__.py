"""Images from a Dockerfile, made by a container engine.

- ``model``: the section of the configuration, and what a build is asked
- ``parsing``: what the file says (``instructions`` its data, ``rules``, ``variables``, ``substitution``)
- ``engines``: who runs it
"""
