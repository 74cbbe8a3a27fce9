"""Batched environments of the navigation tasks; a step is table look-ups over the whole batch."""
