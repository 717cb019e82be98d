"""Where record batches go: PostgreSQL with pgvector."""
