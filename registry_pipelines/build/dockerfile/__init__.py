"""Images from a Dockerfile, made by a container engine.

- ``model``: the section of the configuration, and what a build is asked
- ``engines``: who runs it
"""
