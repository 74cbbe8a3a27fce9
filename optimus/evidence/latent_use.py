"""Ask a trained run what its decoder does with the latent.

    python evidence/latent_use.py --run-dir runs/tatoeba_0.50 --text data/tatoeba/test.txt

Nats of the first test sentences, read with the mean of their own posterior, with that of another
sentence, and with the mean of the prior; if all are alike, the decoder ignores z.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from optimus import SentenceVAE
from optimus.runtime.files import json_text
from optimus.runtime.text_files import read_texts

BATCH = 16


def main(argv: Sequence[str] | None = None) -> None:
    """Print the nats as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="sentences, one a line")
    parser.add_argument("--sentences", type=int, default=200)
    options = parser.parse_args(argv)
    vae = SentenceVAE.from_pretrained(options.run_dir)
    texts = [line for line in read_texts(options.text) if line.strip()][: options.sentences]
    means = vae.posterior(texts).mean
    given = {"own": means, "another's": means.roll(1, dims=0), "prior": torch.zeros_like(means)}
    nats = {name: float(nll(vae, texts, latents).mean()) for name, latents in given.items()}
    print(json_text({"sentences": len(texts), **nats}, indent=2))


@torch.no_grad()
def nll(vae: SentenceVAE, texts: Sequence[str], latents: Tensor) -> Tensor:
    """-log p(x|z) (N,) in nats of ``texts`` with the rows of ``latents`` (N, Z)."""
    rows, pad = vae.tokenizers.encode_decoder(texts), vae.tokenizers.pad_id
    found = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        width = max(map(len, batch))
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in batch])
        found.append(vae.model.decoder.nll(ids, latents[start : start + BATCH]))
    return torch.cat(found)


if __name__ == "__main__":
    main()
