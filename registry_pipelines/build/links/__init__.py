"""Does it link? Which shared libraries the files of an image need, and whether anybody brings them.

``root`` puts what was collected of layers (``oci.layer.linkage``) on each other, ``search`` finds libraries as the
dynamic loader does, ``optional`` knows files that may fail to load, ``check`` judges, ``report`` is the answer.
``image`` reads the layers that nobody has read yet and does it all, for any image.
Imported by the builders, and by the command line for foreign images.
"""
