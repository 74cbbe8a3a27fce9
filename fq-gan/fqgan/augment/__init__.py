"""Differentiable augmentation of what discriminators see, for small data sets."""
