"""What becomes rows: from the values that a pickle holds to batches of columns.

In comes what the machine has made of a pickle as a whole; out go columns of equal length, by name:

    shapes      Which values are a table: a DataFrame, a dict or tuple of columns. What isn't one
                is said, with what to pickle instead.
    indices     The levels of a DataFrame's index, as columns.
    matrices    The rows of a matrix, which stay in the file, as a column of vectors.
    long_texts  How many rows can be made together where their texts are long.

`frames.Table` holds the columns and cuts them into batches; rows that are dicts never come here
whole: `records` hands them out while they are read.
"""
