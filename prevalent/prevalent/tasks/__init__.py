"""What is trained: one file a task, with options, presets, opening, step and scores."""
