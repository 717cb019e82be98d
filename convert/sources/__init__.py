"""What a file is, and its rows as batches of columns.

`convert.source.open_source` is the way in; `source` says what all sources are. A path is a
folder or a file:

- `folder` lists a folder's files, opens each as a source of its own, and adds the columns
  that the folders' names say (`REGION=1`);
- `content` unpacks a file that is compressed, and `kinds` tells what is in it, from its first
  bytes; what can't be read is an error that says what it is and how to make rows of it;
- a reader for each kind hands out the rows: `convert.pickle_file`, `convert.arrow_file`
  (Parquet, Arrow), `json_lines`, `csv_file`.

Nothing is validated here, and nothing of a file is executed.
"""
