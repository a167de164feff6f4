"""Transfer learning's shape: a network's frozen body, a new head, train and eval phases, the best weights, resuming."""
# tolerance: 3e-3

import copy
import os
import tempfile
import time

import torch
import torch.nn as nn
import torch.optim as optim
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchvision import models, transforms

torch.manual_seed(5)
net = models.squeezenet1_1(weights=None, num_classes=5)
for param in net.parameters():
    param.requires_grad = False
net.classifier[1] = nn.Conv2d(512, 2, kernel_size=(1, 1))
net.num_classes = 2
print(sum(p.numel() for p in net.parameters() if p.requires_grad), net.classifier)

images = torch.randn(24, 3, 40, 40)
labels = torch.randint(0, 2, (24,))
images[labels == 1] += 0.5
crop = transforms.Compose([transforms.CenterCrop(36), transforms.RandomHorizontalFlip(0.5)])
sets = dict(zip(("train", "val"), random_split(TensorDataset(crop(images), labels), [16, 8])))
dataloaders = {x: DataLoader(sets[x], batch_size=8, shuffle=x == "train") for x in ("train", "val")}
dataset_sizes = {x: len(sets[x]) for x in sets}


def train_model(model, criterion, optimizer, scheduler, num_epochs):
    since = time.time()
    best_model_wts, best_acc = copy.deepcopy(model.state_dict()), -1.0
    for epoch in range(num_epochs):
        for phase in ["train", "val"]:
            model.train(phase == "train")
            running_loss, running_corrects = 0.0, 0
            for inputs, targets in dataloaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    outputs = model(inputs)
                    _, preds = torch.max(outputs, 1)
                    loss = criterion(outputs, targets)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                running_loss += loss.item() * inputs.size(0)
                running_corrects += torch.sum(preds == targets.data)
            if phase == "train":
                scheduler.step()
            epoch_acc = running_corrects.double() / dataset_sizes[phase]
            print(f"{epoch} {phase} Loss: {running_loss / dataset_sizes[phase]:.4f} Acc: {epoch_acc:.4f}")
            if phase == "val" and epoch_acc > best_acc:
                best_acc, best_model_wts = epoch_acc, copy.deepcopy(model.state_dict())
    print("Training complete", time.time() - since > 0, f"Best val Acc: {best_acc:4f}")
    model.load_state_dict(best_model_wts)
    return model


optimizer = optim.SGD(filter(lambda p: p.requires_grad, net.parameters()), lr=0.01, momentum=0.9, weight_decay=1e-4)
scheduler = lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
net = train_model(net, nn.CrossEntropyLoss(), optimizer, scheduler, 2)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "checkpoint.tar")
    torch.save({"epoch": 2, "model": net.state_dict(), "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict()}, path)
    checkpoint = torch.load(path, map_location="cpu")
other = models.squeezenet1_1(num_classes=2)
print(other.load_state_dict(checkpoint["model"]), checkpoint["epoch"], sorted(checkpoint["scheduler"]))
net.eval(), other.eval()
print(torch.equal(net(images[:2]), other(images[:2])), checkpoint["optimizer"]["param_groups"][0]["lr"])
features = nn.Sequential(*list(other.children())[:-1])
print(features(images[:1]).shape, other.features[3].squeeze.weight.norm())
