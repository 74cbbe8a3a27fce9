"""PREVALENT: pre-trained vision-and-language navigation agents (Hao et al., CVPR 2020)."""

__version__ = "0.1.0"
