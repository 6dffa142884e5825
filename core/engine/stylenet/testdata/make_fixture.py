"""Makes the parity fixture of core/engine/stylenet.

    python3.11 -m venv venv && venv/bin/pip install -r core/engine/vit/testdata/requirements.txt
    venv/bin/python core/engine/stylenet/testdata/make_fixture.py

The network is that of PyTorch's fast_neural_style example, written here from its
published structure: names of modules, order of layers, padding, norm. Its widths
are narrow so that the file is small; at the published ones it has 1,679,235
parameters, which is asserted. Everything is drawn from a fixed seed.

    network.safetensors   weights, float32
    cases.safetensors     image.K uint8 [3,H,W], styled.K float32 [3,H',W'], not
                          clamped, computed in float64; H', W' are multiples of 4
"""

import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent
PUBLISHED, NARROW = (32, 64, 128, 64, 32), (6, 8, 10, 9, 7)
SIZES = [(32, 24), (35, 29), (21, 38)]


class Conv(nn.Module):
    def __init__(self, into, out, side, stride=1, upsample=None):
        super().__init__()
        self.conv2d = nn.Conv2d(into, out, side, stride)
        self.pad, self.upsample = side // 2, upsample

    def forward(self, x):
        if self.upsample:
            x = F.interpolate(x, mode="nearest", scale_factor=self.upsample)
        return self.conv2d(F.pad(x, [self.pad] * 4, mode="reflect"))


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1, self.in1 = Conv(width, width, 3), nn.InstanceNorm2d(width, affine=True)
        self.conv2, self.in2 = Conv(width, width, 3), nn.InstanceNorm2d(width, affine=True)

    def forward(self, x):
        return x + self.in2(self.conv2(F.relu(self.in1(self.conv1(x)))))


class Network(nn.Module):
    def __init__(self, a, b, c, d, e):
        super().__init__()
        self.conv1, self.in1 = Conv(3, a, 9), nn.InstanceNorm2d(a, affine=True)
        self.conv2, self.in2 = Conv(a, b, 3, 2), nn.InstanceNorm2d(b, affine=True)
        self.conv3, self.in3 = Conv(b, c, 3, 2), nn.InstanceNorm2d(c, affine=True)
        for i in range(1, 6):
            setattr(self, f"res{i}", Residual(c))
        self.deconv1, self.in4 = Conv(c, d, 3, upsample=2), nn.InstanceNorm2d(d, affine=True)
        self.deconv2, self.in5 = Conv(d, e, 3, upsample=2), nn.InstanceNorm2d(e, affine=True)
        self.deconv3 = Conv(e, 3, 9)

    def forward(self, x):
        x = F.relu(self.in1(self.conv1(x)))
        x = F.relu(self.in2(self.conv2(x)))
        x = F.relu(self.in3(self.conv3(x)))
        for i in range(1, 6):
            x = getattr(self, f"res{i}")(x)
        x = F.relu(self.in4(self.deconv1(x)))
        x = F.relu(self.in5(self.deconv2(x)))
        return self.deconv3(x)


def main():
    assert sum(p.numel() for p in Network(*PUBLISHED).parameters()) == 1_679_235
    g = torch.Generator().manual_seed(5)
    net = Network(*NARROW)
    with torch.no_grad():
        for name, p in sorted(net.named_parameters()):
            n = torch.randn(p.shape, generator=g)
            if name == "deconv3.conv2d.bias":
                p.copy_(127 + 10 * n)
            elif name == "deconv3.conv2d.weight":
                p.copy_(n * 60 / p[0].numel() ** 0.5)
            elif p.dim() == 1:
                p.copy_(0.3 * n + (1 if ".weight" in name else 0))
            else:
                p.copy_(n / p[0].numel() ** 0.5)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, HERE / "network.safetensors")
        net, cases = net.double(), {}
        for k, (h, w) in enumerate(SIZES):
            smooth = F.interpolate(torch.rand(1, 3, 5, 5, generator=g), size=(h, w), mode="bicubic")[0]
            image = (smooth * 255 + 12 * torch.randn(3, h, w, generator=g)).clamp(0, 255).to(torch.uint8)
            styled = net(image.double()[None])[0]
            outside = ((styled < 0) | (styled > 255)).double().mean().item()
            print(f"{h}x{w}: {styled.min():.0f} to {styled.max():.0f}, {outside:.1%} outside 0 to 255")
            cases[f"image.{k}"], cases[f"styled.{k}"] = image, styled.float().contiguous()
        save_file(cases, HERE / "cases.safetensors")
    for name in ("network", "cases"):
        (HERE / f"{name}.safetensors").chmod(0o644)


main()
