"""What a change would cost or save, before it is made: each as cases side by side, with the arithmetic of each.

``model`` has the answer that all of them give; ``retention``, ``replica``, ``archive``, ``bases``, ``rechunk`` and
``streaming`` are one question each. Pure: sizes and counts come in, and what is not known of them stays not known. The
command line asks through ``chain.what_if`` and ``chain.what_if_images``.
"""
