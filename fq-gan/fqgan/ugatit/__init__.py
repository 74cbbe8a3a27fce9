"""FQ-U-GAT-IT: U-GAT-IT (Kim et al., ICLR 2020) with feature quantization in its discriminators."""
