"""What the authors released and we read: checkpoints, command lines, files of torch."""
