"""Scores of generated images: features -> statistics -> number."""
