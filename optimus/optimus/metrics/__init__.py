"""Numbers from tensors and texts; nothing here knows a model or a file."""
