"""What things cost: a book of prices that is data, and where nodes should pull from by it.

``prices`` reads a price book, ``refresh`` makes one from clouds' lists; ``arithmetic`` has quantities times prices as
lines that can be read, ``advice`` does it for ways of pulling. ``holdings`` says who needs which blob, ``allocation``
whose part it is, ``cost`` what that costs; ``history`` keeps runs. ``transfer`` says what moves over ``edges`` of the
configuration, ``whatif`` what a change would come to, before it is made. ``settings`` is the section of the
configuration. Pure: nothing is asked; ``chain`` has the values.

``custody`` has the whole life of a digest as statements with their evidence, ``origin`` what provenance of any builder
says; ``audit`` keeps who did what, and finds what nothing explains; ``maturity`` how good the practice is. ``html``
makes pages that open without a server. ``pipelines`` writes pipelines of CI systems.
"""
