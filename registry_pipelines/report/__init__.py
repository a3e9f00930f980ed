"""What things cost: a book of prices that is data, and where nodes should pull from by it.

``prices`` reads a price book, ``arithmetic`` has quantities times prices as lines that can be read; ``advice`` does it
for ways of pulling, ``storage`` for what is stored. Pure: nothing is asked.
"""
