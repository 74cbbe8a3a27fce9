"""Networks: tensors and a configuration in, tensors out."""
