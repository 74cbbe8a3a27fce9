"""The sentence VAE as modules: tensors and configurations in, named tensors out."""
