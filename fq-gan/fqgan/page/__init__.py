"""``fqgan demo``: a family on toy shapes, and a page to play with a run."""
