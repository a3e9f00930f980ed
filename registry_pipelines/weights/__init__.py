"""Weights of models as artifacts of a registry: each file one blob, uncompressed, so that ranges of it can be read.

``formats`` says what a file is by its content, ``hashing`` reads a folder and notices what changes meanwhile,
``wholeness`` what a download that broke off left, ``model`` is the artifact (ModelPack's manifest) and its files,
``paths`` which names are taken. ``source`` serves a folder to transfers, ``pull`` brings it back, by way of
``staging``, ``listed`` is the list of files that lies beside them, ``verify`` holds content against a list,
``tensors`` reads one tensor, ``attach`` makes weights part of what belongs to a release.
``image_form`` is the same set as a plain image, ``to_image`` makes and checks one.
``in_store`` is a set below a prefix of an object store, ``to_store`` puts one there, ``to_registry`` into a registry,
from wherever ``ends`` opens one. ``mounting`` writes the Kubernetes objects that bring weights to a program. The
command line and ``chain`` import these, ``scan`` and ``anatomy`` the formats.
"""
