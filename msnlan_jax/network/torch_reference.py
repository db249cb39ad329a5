"""MSNLAN in PyTorch, written from SPEC.md with the released key names: what tests and benchmarks compare with.

It computes the attention the way the released model does, unfolding patches and looping over the images of a batch,
so that it is also a fair opponent in benchmarks. Importing this module imports PyTorch; nothing imports it at start.
NCHW throughout, as in the released model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from msnlan_jax.network.attention import NORM_FLOOR, TEMPERATURE
from msnlan_jax.network.layers import RGB_MEAN
from msnlan_jax.network.model import KERNEL_SIZES, RES_SCALE, MSNLANConfig, shuffle_factors


def _conv(features_in: int, features_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(features_in, features_out, kernel, padding=kernel // 2)


class MeanShift(nn.Conv2d):
    """Frozen 1×1 convolution that adds `sign` times the data's mean."""

    def __init__(self, sign: int):
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * torch.from_numpy(RGB_MEAN.copy())  # type: ignore[union-attr]
        self.requires_grad_(False)


class ContrastChannelAttention(nn.Module):
    """CCA with `contrast`, else CA; holds the gate's two convolutions as `conv_du`."""

    def __init__(self, n_feats: int, contrast: bool):
        super().__init__()
        self.contrast = contrast
        hidden = max(1, n_feats // 16)
        self.conv_du = nn.Sequential(
            nn.Conv2d(n_feats, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, n_feats, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Gate `[B,C,H,W]` by its channel statistics."""
        statistic = x.mean((2, 3), keepdim=True)
        if self.contrast:
            statistic = (x - statistic).square().mean((2, 3), keepdim=True).sqrt() + statistic
        y: Tensor = x * self.conv_du(statistic)
        return y


class RMAB(nn.Module):
    """Residual multi-scale aggregation block."""

    def __init__(self, n_feats: int):
        super().__init__()
        self.branch1, self.branch2, self.branch3 = (
            nn.Sequential(_conv(n_feats, n_feats, 3), nn.GELU()) for _ in range(3)
        )
        self.fusion = _conv(3 * n_feats, n_feats, 1)
        self.CCA = ContrastChannelAttention(n_feats, contrast=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B,C,H,W]` to the same shape."""
        x1 = self.branch1(x)
        x2 = self.branch2(x1)
        x3 = self.branch3(x2)
        y: Tensor = x + self.CCA(self.fusion(torch.cat([x1, x2, x3], 1)))
        return y


class ResidualGroup(nn.Module):
    """N RMABs and a closing convolution, plus the input."""

    def __init__(self, n_feats: int, n_blocks: int):
        super().__init__()
        self.body = nn.Sequential(*(RMAB(n_feats) for _ in range(n_blocks)), _conv(n_feats, n_feats, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B,C,H,W]` to the same shape."""
        y: Tensor = x + self.body(x)
        return y


class PatchAttention(nn.Module):
    """The attention of one branch (`stoL` in the released keys), by unfolding, one image at a time."""

    escape_NaN: Tensor  # noqa: N815 - the released name

    def __init__(self, n_feats: int, kernel_size: int):
        super().__init__()
        self.kernel_size = kernel_size
        self.register_buffer("escape_NaN", torch.tensor([NORM_FLOOR]))
        self.conv_match_1 = nn.Sequential(_conv(n_feats, n_feats // 2, 1), nn.PReLU())
        self.conv_match_2 = nn.Sequential(_conv(n_feats, n_feats // 2, 1), nn.PReLU())
        self.conv_assembly = nn.Sequential(_conv(n_feats, n_feats, 1), nn.PReLU())

    def _patch_kernels(self, x: Tensor) -> Tensor:
        """Patches of one `[1,C,H,W]` grid as `[HW,C,k,k]` convolution kernels."""
        k = self.kernel_size
        return F.unfold(x, k, padding=k // 2)[0].T.reshape(-1, x.shape[1], k, k)

    def forward(self, x: Tensor, grid: Tensor) -> Tensor:
        """Attend from `x` `[B,C,H,W]` to `grid` `[B,C,H',W']`."""
        query, key, value = self.conv_match_1(x), self.conv_match_2(grid), self.conv_assembly(grid)
        outputs = []
        for i in range(x.shape[0]):
            key_patches = self._patch_kernels(key[i : i + 1])
            norm = key_patches.square().sum((1, 2, 3), keepdim=True).sqrt()
            scores = F.conv2d(
                query[i : i + 1],
                key_patches / torch.max(norm, self.escape_NaN),
                padding=self.kernel_size // 2,
            )
            weights = F.softmax(TEMPERATURE * scores, dim=1)
            value_patches = self._patch_kernels(value[i : i + 1])
            outputs.append(F.conv_transpose2d(weights, value_patches, padding=self.kernel_size // 2))
        return torch.cat(outputs) + RES_SCALE * x


class NonLocalBranch(nn.Module):
    """One branch of the MSNLAB (`atten{i}`)."""

    def __init__(self, n_feats: int, kernel_size: int):
        super().__init__()
        self.down_sample = nn.Sequential(nn.Conv2d(n_feats, n_feats, 3, padding=kernel_size // 2), nn.PReLU())
        self.stoL = PatchAttention(n_feats, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B,C,H,W]` to the same shape."""
        y: Tensor = x + RES_SCALE * self.stoL(x, self.down_sample(x))
        return y


class MSNLAB(nn.Module):
    """Multi-scale non-local attention block."""

    def __init__(self, n_feats: int):
        super().__init__()
        self.atten1, self.atten2, self.atten3 = (NonLocalBranch(n_feats, k) for k in KERNEL_SIZES)
        self.fusion = _conv(3 * n_feats, n_feats, 1)
        self.CA = ContrastChannelAttention(n_feats, contrast=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B,C,H,W]` to the same shape."""
        y: Tensor = x + self.CA(self.fusion(torch.cat([self.atten1(x), self.atten2(x), self.atten3(x)], 1)))
        return y


class MSNLAN(nn.Module):
    """The whole network: `[B,3,H,W]` RGB 0..255 in, `[B,3,sH,sW]` RGB 0..255 out; sizes from `config`."""

    def __init__(self, config: MSNLANConfig):
        super().__init__()
        c, half = config.n_feats, config.n_groups // 2
        groups = [ResidualGroup(c, config.n_blocks) for _ in range(config.n_groups)]
        self.n_before = half
        self.sub_mean = MeanShift(-1)
        self.fusion = _conv(c * half, c, 1)
        self.add_mean = MeanShift(1)
        self.head = nn.Sequential(_conv(3, c, 3))
        self.body = nn.ModuleList([*groups[:half], MSNLAB(c), *groups[half:], _conv(c, c, 3)])
        upsampler: list[nn.Module] = []
        for factor in shuffle_factors(config.scale):
            upsampler += [_conv(c, c * factor**2, 3), nn.PixelShuffle(factor)]
        self.tail = nn.Sequential(nn.Sequential(*upsampler), _conv(c, 3, 3))
        self.fusion_list = nn.ModuleList([_conv(2 * c, c, 1) for _ in range(half - 1)])

    @staticmethod
    def estimate_bytes(config: MSNLANConfig, h: int, w: int) -> int:
        """Say about how much memory a picture takes: the widest branch's scores, scaled scores and weights, and the
        patches of its keys and values."""
        k = max(KERNEL_SIZES)
        keys = (h + k - 3) * (w + k - 3)
        return 4 * (3 * h * w * keys + 2 * keys * config.n_feats * k * k)

    def forward(self, x: Tensor) -> Tensor:
        """Up-scale a batch."""
        head = self.head(self.sub_mean(x))
        features, outputs = head, []
        for group in self.body[: self.n_before]:
            features = group(features)
            outputs.append(features)
        attended = self.body[self.n_before](self.fusion(torch.cat(outputs, 1)))
        features = self.body[self.n_before + 1](attended)
        for fusion, group in zip(self.fusion_list, self.body[self.n_before + 2 : -1], strict=True):
            features = group(fusion(torch.cat([features, attended], 1)))
        y: Tensor = self.add_mean(self.tail(self.body[-1](features) + head))
        return y
