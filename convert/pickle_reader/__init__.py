"""Reads pickles of embeddings as data: nothing that they name is imported, called or made.

`open_pickle(buffer).batches(...)` streams a list of dicts or a DataFrame as batches of
columns. The buffer is a file in memory, mapped rather than read: values are taken from it
when they are needed, floats and arrays are converted in place, so that memory doesn't
grow with the file. What the pickle may name is listed in `convert.pickle_reader.known`.
"""

from convert.pickle_reader.columns import BATCH_BYTES, Batch, IndexName, Repeated, Values
from convert.pickle_reader.errors import DamagedPickle, PickleReaderError, UnsupportedPickle
from convert.pickle_reader.reader import BATCH_ROWS, Pickle, open_pickle
from convert.pickle_reader.values.texts import LONG_TEXTS
from convert.pickle_reader.vectors import FloatLists

__all__ = [
    "BATCH_BYTES",
    "BATCH_ROWS",
    "LONG_TEXTS",
    "Batch",
    "DamagedPickle",
    "FloatLists",
    "IndexName",
    "Pickle",
    "PickleReaderError",
    "Repeated",
    "UnsupportedPickle",
    "Values",
    "open_pickle",
]
