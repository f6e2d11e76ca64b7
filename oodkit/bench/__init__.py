"""The benchmark: detectors × OOD sets × seeds, with metrics, a run folder that resumes, and tables."""
