"""The quickstart's shape: a data set with transforms, a flat classifier, train and test loops, a saved state_dict."""
# tolerance: 1e-3

import os
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import Lambda, ToTensor


class Stripes(Dataset):
    """Pictures of horizontal, vertical and diagonal stripes."""

    def __init__(self, count, transform=None, target_transform=None):
        generator = torch.Generator().manual_seed(count)
        self.labels = torch.randint(0, 3, (count,), generator=generator)
        rows, columns = torch.meshgrid(torch.arange(14), torch.arange(14), indexing="ij")
        waves = torch.stack([rows, columns, rows + columns])[self.labels] % 4 < 2
        noise = torch.rand(count, 14, 14, generator=generator)
        self.pictures = ((0.6 * waves + 0.4 * noise) * 255).to(torch.uint8).numpy()
        self.transform, self.target_transform = transform, target_transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        picture, label = self.pictures[index], self.labels[index]
        if self.transform:
            picture = self.transform(picture)
        if self.target_transform:
            label = self.target_transform(label)
        return picture, label


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.stack = nn.Sequential(nn.Linear(14 * 14, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x):
        return self.stack(self.flatten(x))


torch.manual_seed(42)
device = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
print(f"Using {device} device")
transform = transforms.Compose([ToTensor(), transforms.Normalize((0.5,), (0.25,))])
train_loader = DataLoader(Stripes(512, transform, Lambda(lambda y: y.clone())), batch_size=64, shuffle=True)
test_loader = DataLoader(Stripes(128, transform), batch_size=64)
X, y = next(iter(test_loader))
print(f"Shape of X [N, C, H, W]: {X.shape} {X.dtype}, y: {y.shape} {y.dtype}, {X.mean():.4f}")

model = NeuralNetwork().to(device)
print(model)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=2e-2, momentum=0.9)


def train(dataloader):
    size = len(dataloader.dataset)
    model.train()
    for batch, (X, y) in enumerate(dataloader):
        X, y = X.to(device), y.to(device)
        loss = loss_fn(model(X), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 4 == 0:
            print(f"loss: {loss.item():>7f}  [{(batch + 1) * len(X):>5d}/{size:>5d}]")


def test(dataloader):
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            pred = model(X.to(device))
            test_loss += loss_fn(pred, y).item()
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
    print(f"Accuracy: {100 * correct / len(dataloader.dataset):>0.1f}%, Avg loss: {test_loss / len(dataloader):>8f}")


for t in range(3):
    print(f"Epoch {t + 1}\n-------------------------------")
    train(train_loader)
    test(test_loader)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "model.pth")
    torch.save(model.state_dict(), path)
    fresh = NeuralNetwork()
    print(fresh.load_state_dict(torch.load(path, weights_only=True)))
fresh.eval()
x, y = test_loader.dataset[0]
with torch.no_grad():
    pred = fresh(x)
    print(f"Predicted: {pred[0].argmax(0)}, Actual: {y}, {pred.softmax(-1).max():.3f}")
