"""An image of any builder made anew with one package a layer: the same files, and layers that stay where they are.

``merged`` is the tree of an image with what is known of its contents, ``tree_digest`` what two images must share,
``bytecode`` which compiled modules lose the time of their source, ``layouts`` which package goes into which layer,
``planning`` what each layer holds and the key that says so. ``spilling`` reads the old layers once and keeps what is
wanted compressed, ``joining`` makes a layer of it, ``making`` sends it and reads it back while it passes; ``documents``
are config and manifest, ``engine`` does it all, ``model`` is what it answers. ``release`` signs and tags what was made,
``verifying`` reads both images again; ``section`` is what the configuration holds.
Imported by the command line, ``chain`` and ``config``. Imports ``build`` (tar headers, sizes of layers, its memory of
layers), ``scan`` (facts of layers) and ``stream`` (merging, documents).
"""
