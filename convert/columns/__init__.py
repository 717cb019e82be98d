"""Columns of a source to validated columns: which column is which field, and what it may hold.

In come the columns of a batch, by the names that the source has for them; out go columns as the
dataset stores them, with the problems of the rows that can't be converted. No file is opened here.
"""
