"""The dataset file, and what is gathered on disk before it is written."""
