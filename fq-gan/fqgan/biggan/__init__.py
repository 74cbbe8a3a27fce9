"""FQ-BigGAN: BigGAN (Brock et al., ICLR 2019) with feature quantization in its discriminator."""
