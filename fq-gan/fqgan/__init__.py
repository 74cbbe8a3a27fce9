"""FQ-GAN: feature quantization improves GAN training (Zhao et al., ICML 2020)."""

__version__ = "0.1.0"
