"""What a start reads, known before it starts.

- ``recording`` is the list of pages that a start read, in the order of need (``touches``); lists alone, never bytes
- ``recorder`` runs an image within ``limits`` and writes down what it reads; ``recordings`` attaches and finds them
- ``cutting`` makes a ``pack`` of a recording: ``contents`` finds its files in an image, ``touched`` what a mount asks
  for
- ``packs`` attaches and finds them, ``using`` starts an image from one
"""
