"""torchsummary: its table of a network."""

import torch
import torchvision
from torchsummary import summary

summary(torchvision.models.resnet18(), (3, 224, 224), device="cpu")
net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU())
summary(net, (1, 8, 8), batch_size=4, device="cpu")
