"""Weights that are baked into an image: found by their content, and brought out of its layers as an artifact or a
folder, without unpacking the image.

``finding`` says which files they are, what the image would be without them and which instructions brought them;
``naming`` which other files go with them and under which paths; ``moving`` streams them out.
Imported by the command line. Imports ``anatomy``, ``scan`` (facts of layers), ``weights`` (the artifact) and
``transfer`` (uploads).
"""
