"""What runs when, and how long something is tried again. Knows no blob; used by ``delivery`` and ``blob``.

``schedule`` runs tasks that wait for each other, ``streams`` admits as many large loads at once as serve the end,
``health`` knows which registries are in trouble, ``patience`` how long one is waited for.
"""
