"""Text to tensors: tokenisation, caches, batches, corpora."""
