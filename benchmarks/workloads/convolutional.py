"""A small convolutional network for 133 dog breeds."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads.work import Work, training_step

BREEDS = 133


def dog_breeds(torch: Any, part: Any, size: int, batch: int = 32) -> Work:
    """Three 3×3 convolutions, two of them with batch norm and pooling, then two linear layers with dropout between."""
    nn = torch.nn

    def block(channels: int, features: int) -> Any:
        convolution = nn.Conv2d(channels, features, 3, 1, 1)
        return nn.Sequential(convolution, nn.ReLU(), nn.BatchNorm2d(features), nn.MaxPool2d(2, 2, 0))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block1 = nn.Sequential(nn.Conv2d(3, 32, 3, 1, 1), nn.ReLU())
            self.block2 = block(32, 64)
            self.block3 = block(64, 128)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc1 = nn.Linear(128, 512)
            self.dropout = nn.Dropout(0.5)
            self.fc2 = nn.Linear(512, BREEDS)

        def forward(self, x: Any) -> Any:
            x = self.pool(self.block3(self.block2(self.block1(x))))
            x = self.fc1(x.view(x.size(0), -1))
            return self.fc2(self.dropout(x))

    model = Network()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    batches = [(torch.randn(batch, 3, size, size), torch.randint(0, BREEDS, (batch,))) for _ in range(2)]
    return Work(training_step(lambda x, y: criterion(model(x), y), optimizer, part), batches, [model, optimizer])
