"""What one can train, one file each, to be read from top to bottom: options, data, step, scores."""
