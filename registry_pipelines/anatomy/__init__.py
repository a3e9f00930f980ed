"""What is inside an image, byte by byte: whose files, of which class, what they cost, and which of them nobody sees.

``reading`` gets what one pass over each layer found (a layer that was scanned is not read again),
``stacking`` puts the layers on each other, ``owning`` says which package a file is of, ``classes`` what kind of file it
is, ``advice`` what need not be there, ``image_findings`` what else should be otherwise (``kinds`` has all their names);
``predicate`` is what signed evidence says of it; ``anatomy`` does it all for one image, ``report`` is its answer;
``picture`` draws it on a ``raster`` of its own. ``sharing`` is what other images of a registry have of it, ``changes``
what its releases moved. ``rechunk`` makes an image anew with one package a layer,
``baked`` finds weights and brings them out.
Imported by the command line and ``chain``; ``promote`` reads ``kinds`` and ``predicate``. Imports ``scan`` (facts of
layers), ``stream`` (which image a machine starts) and, for what it makes, ``build``.
"""
