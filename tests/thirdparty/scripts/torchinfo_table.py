"""torchinfo: its table of networks, with depths, columns, recurrent layers and attention."""

import torch
import torchvision
from torch import nn
from torchinfo import summary

print(summary(torchvision.models.resnet18(), (1, 3, 64, 64), verbose=0))
columns = ("input_size", "output_size", "num_params", "kernel_size", "mult_adds", "trainable", "params_percent")
print(summary(torchvision.models.squeezenet1_1(), (2, 3, 64, 64), verbose=0, depth=2, col_names=columns))


class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 6)
        self.lstm = nn.LSTM(6, 7, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(14, 3)

    def forward(self, text):
        return self.head(self.lstm(self.words(text))[0][:, -1])


print(summary(Reader(), (2, 5), dtypes=[torch.long], verbose=0, row_settings=("var_names", "depth")))
print(summary(nn.TransformerEncoderLayer(16, 4), (5, 2, 16), verbose=0))
