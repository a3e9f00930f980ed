"""A layer's files before the layer is there: every byte is fetched when it is first read, and verified before.

- ``blocks`` keeps what was fetched: one sparse file for each layer, for all images and processes of the node
- ``pieces`` says what can be fetched and verified by itself: spans, chunks, whole layers
- ``filling`` fetches it: what somebody waits for first, the rest in the background
"""
