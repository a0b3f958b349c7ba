"""Training recipes built on mmduet.training."""
