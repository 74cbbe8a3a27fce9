"""The plain way: what ours is measured against, written as the formulas stand.

Distance and one-hot matrices of all vectors by all codes, three products per spectral norm, 1x1
convolutions on the large image, Adam and the model average tensor by tensor, losses read out every
iteration.
"""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fqgan.biggan.config import BigganConfig, StepConfig
from fqgan.biggan.layers import ConditionalNorm, DiscriminatorBlock, GeneratorBlock
from fqgan.biggan.networks import build_discriminator, build_generator
from fqgan.quantizer import FeatureQuantizer
from fqgan.spectral_norm import SpectralNorm


class PlainQuantizer(nn.Module):
    """Feature quantization with full matrices; same numbers as ``FeatureQuantizer``."""

    def __init__(self, channels: int, codebook_size: int, weight: float, decay: float) -> None:
        super().__init__()
        self.weight, self.decay, self.eps = weight, decay, 1e-5
        embed = torch.randn(channels, codebook_size)
        self.register_buffer("embed", embed)
        self.register_buffer("cluster_size", torch.zeros(codebook_size))
        self.register_buffer("embed_avg", embed.clone())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        vectors = features.permute(0, 2, 3, 1).contiguous()
        rows = vectors.reshape(-1, vectors.shape[-1])
        distance = (
            rows.pow(2).sum(1, keepdim=True)
            - 2 * rows @ self.embed
            + self.embed.pow(2).sum(0, keepdim=True)
        )
        _, index = (-distance).max(1)
        onehot = F.one_hot(index, self.embed.shape[1]).type(rows.dtype)
        quantized = F.embedding(index.view(vectors.shape[:-1]), self.embed.transpose(0, 1))
        if self.training:
            with torch.no_grad():
                self.cluster_size.mul_(self.decay).add_(onehot.sum(0), alpha=1 - self.decay)
                sums = rows.transpose(0, 1) @ onehot
                self.embed_avg.mul_(self.decay).add_(sums, alpha=1 - self.decay)
                number = self.cluster_size.sum()
                count = self.cluster_size + self.eps
                count = count / (number + self.embed.shape[1] * self.eps) * number
                self.embed.copy_(self.embed_avg / count.unsqueeze(0))
        loss = self.weight * (quantized.detach() - vectors).pow(2).mean((1, 2, 3))
        quantized = vectors + (quantized - vectors).detach()
        share = onehot.mean(0)
        perplexity = torch.exp(-torch.sum(share * torch.log(share + 1e-10)))
        return quantized.permute(0, 3, 1, 2).contiguous(), loss, perplexity


def build_plain(config: BigganConfig) -> tuple[nn.Module, nn.Module]:
    """Our networks with every forward function replaced by the plain one."""
    generator, discriminator = build_generator(config), build_discriminator(config)
    for network in (generator, discriminator):
        for part in network.modules():
            if isinstance(part, SpectralNorm):
                part.normalized_weight = MethodType(plain_weight, part)
            for kind, forward in PLAIN_FORWARDS.items():
                if isinstance(part, kind):
                    part.forward = MethodType(forward, part)
    for stage in discriminator.blocks:
        for place, part in enumerate(stage):
            if isinstance(part, FeatureQuantizer):
                stage[place] = PlainQuantizer(
                    part.channels, part.codebook_size, part.commitment_weight, part.decay
                )
    discriminator.forward = MethodType(_plain_judge, discriminator)
    generator.forward = generator._draw
    return generator, discriminator


class PlainStep:
    """A training iteration of hinge loss, tensor by tensor."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, config: StepConfig) -> None:
        self.generator, self.discriminator, self.config = generator, discriminator, config
        self.average = copy.deepcopy(generator)
        self.g_optimizer, self.d_optimizer = (
            torch.optim.Adam(network.parameters(), lr, betas, config.adam_eps, foreach=False)
            for network, lr, betas in (
                (generator, config.generator_lr, config.generator_betas),
                (discriminator, config.discriminator_lr, config.discriminator_betas),
            )
        )

    def __call__(self, images: Tensor, labels: Tensor, step: int) -> list[float]:
        config, generator, discriminator = self.config, self.generator, self.discriminator
        size = config.batch_size
        _toggle(discriminator, True)
        _toggle(generator, False)
        for x, y in zip(images.split(size), labels.split(size), strict=True):
            self.d_optimizer.zero_grad()
            z, chosen = self._draw(size)
            with torch.no_grad():
                generated = generator(z, chosen)
            score, diff, perplexity = discriminator(
                torch.cat([generated, x]), torch.cat([chosen, y])
            )
            real = F.relu(1 - score[size:]).mean() + diff[size:].mean()
            fake = F.relu(1 + score[:size]).mean() + diff[:size].mean()
            (real + fake).backward()
            self.d_optimizer.step()
        _toggle(discriminator, False)
        _toggle(generator, True)
        self.g_optimizer.zero_grad()
        z, chosen = self._draw(size)
        score, diff, _ = discriminator(generator(z, chosen), chosen)
        loss = -score.mean() + diff.mean()
        loss.backward()
        self.g_optimizer.step()
        decay = config.ema_decay
        source, target = generator.state_dict(), self.average.state_dict()
        with torch.no_grad():
            for name in source:
                target[name].copy_(target[name] * decay + source[name] * (1 - decay))
        return [v.item() for v in (loss, real, fake, diff.mean(), perplexity)]

    def _draw(self, number: int) -> tuple[Tensor, Tensor]:
        device = next(self.generator.parameters()).device
        labels = torch.randint(self.generator.num_classes, (number,), device=device)
        return torch.randn(number, self.generator.latent_dim, device=device), labels


def _toggle(network: nn.Module, on: bool) -> None:
    for parameter in network.parameters():
        parameter.requires_grad = on


def plain_weight(self: Any) -> Tensor:
    if self.ready is not None:
        return self.ready
    matrix = self.weight.view(self.weight.size(0), -1)
    with torch.no_grad():
        v = F.normalize(torch.matmul(self.u0, matrix), eps=self.sn_eps)
        u = F.normalize(torch.matmul(v, matrix.t()), eps=self.sn_eps)
        if self.training:
            self.u0[:] = u
    value = torch.squeeze(torch.matmul(torch.matmul(v, matrix.t()), u.t()))
    if self.training:
        with torch.no_grad():
            self.sv0[:] = value
    return self.weight / value


def _plain_norm(self: Any, features: Tensor, condition: Tensor) -> Tensor:
    gain = (1 + self.gain(condition)).view(len(features), -1, 1, 1)
    bias = self.bias(condition).view(len(features), -1, 1, 1)
    out = F.batch_norm(
        features, self.stored_mean, self.stored_var, None, None, self.training, 0.1, self.eps
    )
    return out * gain + bias


def _plain_generator_block(self: Any, features: Tensor, condition: Tensor) -> Tensor:
    hidden = F.relu(self.bn1(features, condition))
    hidden = F.interpolate(hidden, scale_factor=2)
    features = F.interpolate(features, scale_factor=2)
    hidden = self.conv1(hidden)
    hidden = self.conv2(F.relu(self.bn2(hidden, condition)))
    return hidden + self.conv_sc(features)


def _plain_discriminator_block(self: Any, features: Tensor) -> Tensor:
    hidden = self.conv1(features if self.first else F.relu(features))
    hidden = self.conv2(F.relu(hidden))
    if self.down:
        hidden = F.avg_pool2d(hidden, 2)
    if not hasattr(self, "conv_sc"):
        return hidden + features
    if self.first:
        return hidden + self.conv_sc(F.avg_pool2d(features, 2) if self.down else features)
    shortcut = self.conv_sc(features)
    return hidden + (F.avg_pool2d(shortcut, 2) if self.down else shortcut)


def _plain_judge(self: Any, hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    losses, perplexity = hidden.new_zeros(len(hidden)), hidden.new_ones(())
    for stage in self.blocks:
        for part in stage:
            if isinstance(part, PlainQuantizer):
                _, loss, perplexity = part(hidden)
                losses = losses + loss
            else:
                hidden = part(hidden)
    pooled = torch.sum(F.relu(hidden), [2, 3])
    score = self.linear(pooled) + torch.sum(self.embed(labels) * pooled, 1, keepdim=True)
    return score.squeeze(1), losses, perplexity


PLAIN_FORWARDS = {
    ConditionalNorm: _plain_norm,
    GeneratorBlock: _plain_generator_block,
    DiscriminatorBlock: _plain_discriminator_block,
}
