"""Datasets: CSV feeds declared in files, so that a feed of one's own needs no code.

`declaration` says what may be declared, `catalogue` finds the declarations, `rows` reads a file by one, `encoding`
makes records of its rows, `survey` tells whether a file can be trusted before anything of it is published.
Source: design section 3, "Records".
"""
