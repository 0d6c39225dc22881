"""PyTorch modules as users may write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """A residual block as torchvision writes it: in place, and with an identity shortcut."""

    def __init__(self, inplace: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace)
        self.shortcut = nn.Identity()
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> Any:
        x = self.relu(self.stem(x))
        out = self.norm(self.conv(x))
        out += self.shortcut(x)
        out = functional.adaptive_avg_pool2d(self.relu(out), 1)
        return self.head(out.view(out.size(0), -1))


class PreActivation(Residual):
    """Normalisation and ReLU before the convolution: two readers of the stem's tensor."""

    def forward(self, x: torch.Tensor) -> Any:
        x = self.stem(x)
        x = x + self.conv(self.relu(self.norm(x)))
        return self.head(x.mean((2, 3)))


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(4, 2, 1)
        self.three = nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 3, padding=1))
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(torch.cat([self.one(x), self.three(x), self.pool(x)], dim=1))


class SkipFromInput(nn.Module):
    """Every layer is bypassed by the raw input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> Any:
        return x + self.b(self.a(x).relu())


class Functional(nn.Module):
    """No submodules: parameters are read as attributes, and one is computed from others."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(6, 3, 3, 3))
        self.a, self.b = nn.Parameter(torch.zeros(5, 2)), nn.Parameter(torch.zeros(2, 24))
        self.offset = torch.ones(1)  # neither a parameter nor a buffer

    def forward(self, x: torch.Tensor, scale: float | None = None) -> torch.Tensor:
        if scale is not None:
            x = x * scale
        x = functional.max_pool2d(functional.relu(functional.conv2d(x, self.kernel)), 2)
        x = functional.dropout(x, training=self.training) + self.offset
        return functional.linear(torch.flatten(x, 1), self.a @ self.b).softmax(-1)


class Tied(nn.Module):
    """One layer called twice, and a second one that shares its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8, bias=False), nn.Linear(8, 8)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> Any:
        return self.b(self.a(self.a(x)).relu())


class ShapeDependent(Tied):
    """Python that depends on a shape: torch.fx gives up, torch.export does not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(x.shape[1] // 8):
            x = super().forward(x)
        return x


class ValueDependent(Tied):
    def forward(self, x: torch.Tensor) -> Any:
        return self.a(x) if x.sum() > 0 else self.b(x)


class TwoInputs(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class TwoResults(Tied):
    def forward(self, x: torch.Tensor) -> Any:
        return self.a(x), self.b(x)


class EarlyExit(nn.Module):
    """A second head, and the tensor before an activation as a third result."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.exit, self.head = (nn.Linear(8, n) for n in (8, 8, 2, 4))

    def forward(self, x: torch.Tensor) -> Any:
        x = self.a(x).relu()
        early, y = self.exit(x), self.b(x)
        return {"early": early, "late": [self.head(y.relu()), y]}


class Nothing(Tied):
    def forward(self, x: torch.Tensor) -> Any:
        self.a(x)


class Unused(nn.Module):
    """A branch whose result is dropped."""

    def __init__(self, of_input: bool) -> None:
        super().__init__()
        self.of_input = of_input
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.a(x)
        self.b(x if self.of_input else y)
        return y.relu()


class Tokens(nn.Module):
    """Tokens, two layers of an encoder, and a head; all of it with a causal mask, or without."""

    def __init__(self, causal: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        norm = nn.LayerNorm(8)
        self.encoder = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
        self.head = nn.Linear(8, 50)
        mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
        self.register_buffer("mask", mask)

    def forward(self, tokens: torch.Tensor) -> Any:
        return self.head(self.encoder(self.embedding(tokens), self.mask))
