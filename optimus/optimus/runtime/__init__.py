"""Plumbing of a run, byte-identical in the three projects (`make twins` compares the copies)."""
