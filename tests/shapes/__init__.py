"""The catalogue of shapes: what people's embedding files look like, and what becomes of each.

Each module but `catalogue` has a list SHAPES of one area; tests/test_shapes.py converts them all.
"""
