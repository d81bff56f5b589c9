"""The five networks. Each takes `image` [batch, 1, H, W] with pixels in [0, 1]; H = W = 28, or 64 for the detector.

They are small versions of families that people deploy, and keep what makes each family hard or easy to quantize:
residual additions, depthwise convolutions with clipped activations, LayerNorm and Softmax, a recurrent op, and an
output that mixes box coordinates with scores.
"""

import torch
from torch import Tensor, nn

CLASSES = 10


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut (He et al. 2015, arXiv:1512.03385); [b, cin, h, w] -> [b, cout, h/s, w/s]."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or cin != cout:
            self.shortcut = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-8, the network of the MLPerf Tiny benchmark, for one colour channel; [b, 1, 28, 28] -> logits [b, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stages = nn.Sequential(ResidualBlock(16, 16, 1), ResidualBlock(16, 32, 2), ResidualBlock(32, 64, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(64, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.pool(self.stages(self.stem(image))).flatten(1))


def conv_bn_relu6(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU6: the building brick of MobileNetV2."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Expand, depthwise convolution, linear projection (Sandler et al. 2018, arXiv:1801.04381)."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int = 4) -> None:
        super().__init__()
        hidden = cin * expand
        self.residual = stride == 1 and cin == cout
        self.body = nn.Sequential(
            conv_bn_relu6(cin, hidden, 1),
            conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNet(nn.Module):
    """MobileNetV2 with five inverted residuals; [b, 1, 28, 28] -> logits [b, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_bn_relu6(1, 16, 3, stride=2),
            InvertedResidual(16, 24, 1),
            InvertedResidual(24, 24, 1),
            InvertedResidual(24, 48, 2),
            InvertedResidual(48, 48, 1),
            InvertedResidual(48, 48, 1),
            conv_bn_relu6(48, 192, 1),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(192, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(image)).flatten(1))


class Attention(nn.Module):
    """Multi-head self-attention, written out so that MatMul and Softmax are nodes; [b, t, d] -> [b, t, d]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_width).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        weights = torch.softmax(query @ key.transpose(-2, -1) * self.head_width**-0.5, dim=-1)
        return self.out((weights @ value).transpose(1, 2).reshape(batch, tokens, width))


class EncoderBlock(nn.Module):
    """Pre-norm transformer block: attention, then an MLP with Gelu, each with a residual; [b, t, d] -> [b, t, d]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """ViT (Dosovitskiy et al. 2020, arXiv:2010.11929) on 49 patches of 4x4, mean-pooled; [b, 1, 28, 28] -> [b, 10]."""

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, kernel_size=4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 49, width) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.position
        return self.classifier(self.norm(self.blocks(tokens)).mean(1))


class RowLSTM(nn.Module):
    """Reads the image row by row, 28 steps of 28 pixels; [b, 1, 28, 28] -> logits [b, 10]."""

    def __init__(self, hidden: int = 128) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, hidden, batch_first=True)
        self.classifier = nn.Linear(hidden, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        states, _ = self.lstm(image.squeeze(1))
        return self.classifier(states[:, -1])


class ConvSilu(nn.Module):
    """Convolution, BatchNorm, SiLU: the building brick of the YOLO family; [b, cin, h, w] -> [b, cout, h/s, w/s]."""

    def __init__(self, cin: int, cout: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """Two ConvSilu around a residual; keeps the shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvSilu(channels, channels), ConvSilu(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Detector(nn.Module):
    """One-stage digit detector; [b, 1, 64, 64] -> detections [b, 4 + 10, 256], one column per cell of a 16x16 grid.

    Rows 0-3 are the decoded box (cx, cy, w, h), rows 4-13 the class scores in [0, 1]: the layout of YOLOv8's export.
    Boxes are in pixels of the 640x640 frame whose 64x64 thumbnail is the input. So values up to 640 and scores up to 1
    share the final Concat, and one int8 scale over both rounds every score to zero: the reason why this model is here.
    """

    stride = 40  # distance of two cells, in pixels of the frame
    cells = 16 * 16

    def __init__(self) -> None:
        super().__init__()
        self.to_stride4 = nn.Sequential(ConvSilu(1, 16, stride=2), ConvSilu(16, 32, stride=2), Bottleneck(32))
        self.to_stride8 = nn.Sequential(ConvSilu(32, 64, stride=2), Bottleneck(64))
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.neck = nn.Sequential(ConvSilu(96, 32, kernel=1), ConvSilu(32, 48))
        self.box_head = nn.Sequential(ConvSilu(48, 24), nn.Conv2d(24, 4, 1))
        self.class_head = nn.Sequential(ConvSilu(48, 24), nn.Conv2d(24, CLASSES, 1))
        # Start from "almost nothing is a digit": without it the background swamps the first steps (RetinaNet's prior).
        nn.init.constant_(self.class_head[-1].bias, -4.6)
        axis = (torch.arange(16) + 0.5) * self.stride
        rows, columns = torch.meshgrid(axis, axis, indexing="ij")
        self.centres: Tensor
        self.register_buffer("centres", torch.stack((columns.flatten(), rows.flatten())))  # [2, 256]: x, y

    def boxes_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded boxes [b, 4, 256] and raw class logits [b, 10, 256]."""
        fine = self.to_stride4(image)
        features = self.neck(torch.cat((self.upsample(self.to_stride8(fine)), fine), dim=1))
        raw = self.box_head(features).reshape(-1, 4, self.cells).sigmoid()
        # A cell answers for centres less than one stride away and for sides up to the whole frame (as YOLOv5 does).
        centre = (raw[:, :2] * 2 - 1) * self.stride + self.centres
        sides = (raw[:, 2:] * 2) ** 2 * 160
        return torch.cat((centre, sides), dim=1), self.class_head(features).reshape(-1, CLASSES, self.cells)

    def forward(self, image: Tensor) -> Tensor:
        boxes, logits = self.boxes_and_logits(image)
        return torch.cat((boxes, logits.sigmoid()), dim=1)
