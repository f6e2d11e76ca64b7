"""Marks of tests that need the real sets or the authors' weights: they skip, and say so, where there are none."""

import pytest
from reference import DATA, REFERENCE

__all__ = ["needs_data", "needs_reference"]

needs_reference = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the authors' weights are not at hand (OODKIT_REFERENCE)"
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real test sets are not at hand (OODKIT_DATA)")
