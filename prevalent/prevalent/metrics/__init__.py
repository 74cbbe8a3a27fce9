"""Scores of trajectories and of language; they see viewpoints and distances, never models."""
