"""Images with labels: readers, writers, an endless sampler, and statistics of whole data sets."""
