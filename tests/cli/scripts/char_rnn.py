"""Recurrent networks as tutorials write them: an RNN by hand over letters, an LSTM tagger, packed sequences."""

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES = {"italian": ["rossi", "bianchi", "romano", "colombo"], "irish": ["oneill", "obrien", "okeefe", "oreilly"]}
torch.manual_seed(7)


def line_to_tensor(line):
    tensor = torch.zeros(len(line), 1, len(LETTERS))
    for i, letter in enumerate(line):
        tensor[i][0][LETTERS.find(letter)] = 1
    return tensor


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.h2o = nn.Linear(hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        hidden = torch.tanh(self.i2h(torch.cat((input, hidden), 1)))
        return self.softmax(self.h2o(hidden)), hidden


rnn, criterion = RNN(len(LETTERS), 16, 2), nn.NLLLoss()
for step in range(40):
    label = step % 2
    line = list(NAMES.values())[label][step // 2 % 4]
    hidden = torch.zeros(1, rnn.hidden_size)
    rnn.zero_grad()
    for letter in line_to_tensor(line):
        output, hidden = rnn(letter, hidden)
    loss = criterion(output, torch.tensor([label]))
    loss.backward()
    nn.utils.clip_grad_norm_(rnn.parameters(), 1.0)
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-0.1)
    if step % 10 >= 8:
        top_n, top_i = output.topk(1)
        print(step, line, list(NAMES)[top_i[0].item()], f"{loss:.4f}")

sentences = [torch.tensor([1, 4, 2, 7, 3]), torch.tensor([5, 6]), torch.tensor([8, 1, 1])]
lengths = torch.tensor([len(s) for s in sentences])
padded = pad_sequence(sentences, batch_first=True)
embedding = nn.Embedding(10, 6, padding_idx=0)
lstm = nn.LSTM(6, 8, num_layers=2, bidirectional=True, batch_first=True, dropout=0.1)
head = nn.Linear(16, 3)
tags = torch.tensor([[0, 1, 2, 0, 1], [2, 2, -100, -100, -100], [1, 0, 0, -100, -100]])
optimizer = torch.optim.Adam([*embedding.parameters(), *lstm.parameters(), *head.parameters()], lr=0.05)
for epoch in range(4):
    packed = pack_padded_sequence(embedding(padded), lengths, batch_first=True, enforce_sorted=False)
    output, (h, c) = lstm(packed)
    output, back = pad_packed_sequence(output, batch_first=True)
    loss = nn.CrossEntropyLoss()(head(output).transpose(1, 2), tags)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(epoch, loss.item(), h.shape, c[0, 0, :2], back.tolist())
print(embedding.weight.grad[0].abs().sum(), lstm.weight_ih_l1_reverse.grad.norm())

cell, hx = nn.GRUCell(3, 5), torch.zeros(2, 5)
for x in torch.randn(4, 2, 3):
    hx = cell(x, hx)
print(hx.detach(), hx.requires_grad)
