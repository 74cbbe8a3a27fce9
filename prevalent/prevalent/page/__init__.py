"""The page on which agents walk, and pictures of walks."""
