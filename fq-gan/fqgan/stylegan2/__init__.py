"""FQ-StyleGAN2: StyleGAN2 (Karras et al., CVPR 2020) with feature quantization in D."""
