"""Compute evaluation metrics as pure functions of plain values and NumPy arrays."""
