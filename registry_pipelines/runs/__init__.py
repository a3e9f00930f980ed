"""Runs of a Dagster that is elsewhere: launched and read through the GraphQL API of its webserver.

``server`` speaks to it (address, token, what it says for errors); ``asking`` launches and reads; ``model`` is what
comes back. Nothing here knows Dagster's code: the machine that asks need not have it. The command line imports this
room.
"""
