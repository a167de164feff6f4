"""ResNets (He et al. 2015): training from scratch, a frozen one with a new head, inference.

The structure, the names of the parameters and the place of the strides (in a bottleneck's 3×3) are those of the usual
model zoos, so their weights load.
"""

from __future__ import annotations

from typing import Any

from benchmarks.workloads.work import Work, training_step

# Blocks per stage, and how much wider than its 3×3 a block's output is (1: two 3×3; 4: the bottleneck).
LAYOUTS = {
    "resnet18": ((2, 2, 2, 2), 1),
    "resnet50": ((3, 4, 6, 3), 4),
    "resnet101": ((3, 4, 23, 3), 4),
}
WIDTHS = (64, 128, 256, 512)


def model_of(torch: Any, name: str, classes: int = 1000) -> Any:
    """The network with fresh weights: kaiming normal by fan-out for convolutions."""
    nn = torch.nn
    depths, expansion = LAYOUTS[name]

    def convolution(channels: int, features: int, kernel: int, stride: int = 1) -> Any:
        return nn.Conv2d(channels, features, kernel, stride=stride, padding=kernel // 2, bias=False)

    class Block(nn.Module):
        """Convolutions with batch norm between them; the input, brought to shape, is added before the last ReLU."""

        def __init__(self, channels: int, width: int, stride: int, downsample: Any) -> None:
            super().__init__()
            plan = [(channels, width, 3, stride), (width, width, 3, 1)]
            if expansion == 4:
                plan = [(channels, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)]
            for number, (inputs, outputs, kernel, stride) in enumerate(plan, 1):
                setattr(self, f"conv{number}", convolution(inputs, outputs, kernel, stride))
                setattr(self, f"bn{number}", nn.BatchNorm2d(outputs))
            self.relu = nn.ReLU(inplace=True)
            self.downsample = downsample

    class Basic(Block):
        def forward(self, x: Any) -> Any:
            skip = x if self.downsample is None else self.downsample(x)
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y += skip
            return self.relu(y)

    class Bottleneck(Block):
        def forward(self, x: Any) -> Any:
            skip = x if self.downsample is None else self.downsample(x)
            y = self.relu(self.bn1(self.conv1(x)))
            y = self.relu(self.bn2(self.conv2(y)))
            y = self.bn3(self.conv3(y))
            y += skip
            return self.relu(y)

    kind = Basic if expansion == 1 else Bottleneck

    def stage(channels: int, width: int, depth: int, stride: int) -> Any:
        features = width * expansion
        downsample = None
        if stride != 1 or channels != features:
            downsample = nn.Sequential(convolution(channels, features, 1, stride), nn.BatchNorm2d(features))
        first = kind(channels, width, stride, downsample)
        return nn.Sequential(first, *(kind(features, width, 1, None) for _ in range(depth - 1)))

    class ResNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.relu = nn.ReLU(inplace=True)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
            self.layer1 = stage(64, 64, depths[0], 1)
            self.layer2 = stage(64 * expansion, 128, depths[1], 2)
            self.layer3 = stage(128 * expansion, 256, depths[2], 2)
            self.layer4 = stage(256 * expansion, 512, depths[3], 2)
            self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
            self.fc = nn.Linear(512 * expansion, classes)
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

        def forward(self, x: Any) -> Any:
            x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(torch.flatten(self.avgpool(x), 1))

    return ResNet()


def training(torch: Any, part: Any, size: int, batch: int = 16) -> Work:
    """A step of ResNet-18 by SGD with momentum 0.9."""
    model = model_of(torch, "resnet18")
    model.train()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    batches = [(torch.randn(batch, 3, size, size), torch.randint(0, 1000, (batch,))) for _ in range(2)]
    return Work(training_step(lambda x, y: criterion(model(x), y), optimizer, part), batches, [model, optimizer])


def transfer(torch: Any, part: Any, batch: int = 32, classes: int = 133) -> Work:
    """A frozen ResNet-18 in training mode (its batch norms use the batch) under a head that Adam trains."""
    nn = torch.nn

    class Transfer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = model_of(torch, "resnet18")
            for parameter in self.features.parameters():
                parameter.requires_grad = False
            self.classifier = nn.Sequential(nn.Linear(1000, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes))

        def forward(self, x: Any) -> Any:
            return self.classifier(self.features(x))

    model = Transfer()
    model.train()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.classifier.parameters(), lr=1e-4)
    batches = [(torch.randn(batch, 3, 224, 224), torch.randint(0, classes, (batch,))) for _ in range(2)]
    return Work(training_step(lambda x, y: criterion(model(x), y), optimizer, part), batches, [model, optimizer])


def settled(torch: Any, name: str) -> Any:
    """A fresh network in eval mode whose running statistics come from one batch, so that deep ones stay finite."""
    model = model_of(torch, name)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over batches: one batch sets it
    model.train()
    with torch.no_grad():
        model(torch.randn(8, 3, 64, 64))
    return model.eval()


def inference(torch: Any, name: str, batch: int) -> Work:
    """Forward in eval mode; the step is the module itself."""
    model = settled(torch, name)
    return Work(model, [(torch.randn(batch, 3, 224, 224),) for _ in range(2)], [])
