"""What things cost: a book of prices that is data, and where nodes should pull from by it.

``prices`` reads a price book; ``advice`` does the arithmetic for ways of pulling, ``storage`` that for
what is stored. Pure: nothing is asked.
"""
