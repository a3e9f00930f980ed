"""What a start reads, known before it starts.

- ``recording`` is the list of pages that a start read, in the order of need; lists alone, never bytes
"""
