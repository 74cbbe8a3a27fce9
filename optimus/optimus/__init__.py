"""Optimus: sentences organised in a latent space by BERT and GPT-2 (Li et al., EMNLP 2020)."""

__version__ = "0.1.0"
