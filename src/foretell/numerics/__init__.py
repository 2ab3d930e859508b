"""Numerics: arrays in, arrays out. Loaded on first use; knows NumPy and SciPy, and no trial, space or study."""
