"""Marks of tests that need the real sets or the authors' weights: they skip, and say so, where none are named."""

import os

import pytest

__all__ = ["needs_data", "needs_reference"]

needs_reference = pytest.mark.skipif(
    not os.environ.get("OODKIT_REFERENCE"), reason="set OODKIT_REFERENCE to the folder with the authors' weights"
)
needs_data = pytest.mark.skipif(
    not os.environ.get("OODKIT_DATA"), reason="set OODKIT_DATA to the folder with the real test sets"
)
