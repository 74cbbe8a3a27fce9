"""Weights on disk: those that the authors released or their code saved, and ours."""
