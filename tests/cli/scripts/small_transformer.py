"""A small Transformer: positions, causal mask, attention layers, warm-up schedule, greedy continuation."""
# tolerance: 1e-3

import math

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(1337)
text = "the quick brown fox jumps over the lazy dog and the slow red hen hides under the old cart. " * 4
chars = sorted(set(text))
stoi = {ch: i for i, ch in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text], dtype=torch.long)
BLOCK, BATCH, WIDTH = 16, 8, 32


def get_batch():
    ix = torch.randint(len(data) - BLOCK, (BATCH,))
    return torch.stack([data[i:i + BLOCK] for i in ix]), torch.stack([data[i + 1:i + BLOCK + 1] for i in ix])


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, max_len=64):
        super().__init__()
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return x + self.pe[:x.size(0)]


class Head(nn.Module):
    """One head of causal attention, written out."""

    def __init__(self, size):
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(WIDTH, size, bias=False) for _ in range(3))
        self.register_buffer("tril", torch.tril(torch.ones(BLOCK, BLOCK)))

    def forward(self, x):
        B, T, C = x.shape
        wei = self.query(x) @ self.key(x).transpose(-2, -1) * C**-0.5
        wei = wei.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return F.softmax(wei, dim=-1) @ self.value(x)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(len(chars), WIDTH)
        self.positions = PositionalEncoding(WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout=0.0, activation="gelu", norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.heads = nn.ModuleList([Head(WIDTH // 2) for _ in range(2)])
        self.norm = nn.LayerNorm(WIDTH)
        self.decoder = nn.Linear(WIDTH, len(chars), bias=False)
        self.decoder.weight = self.embed.weight
        self.apply(self.init_weights)

    def init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, mean=0.0, std=0.1)

    def forward(self, idx, targets=None):
        x = self.positions(self.embed(idx).transpose(0, 1) * math.sqrt(WIDTH))
        mask = nn.Transformer.generate_square_subsequent_mask(x.size(0))
        x = self.encoder(x, mask, is_causal=True).transpose(0, 1)
        x = x + torch.cat([head(x) for head in self.heads], dim=-1)
        logits = self.decoder(self.norm(x))
        return logits, None if targets is None else F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


model = Model()
print(sum(p.numel() for p in model.parameters()), len(list(model.named_buffers())))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.98), weight_decay=0.01)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) / 10))
for step in range(30):
    xb, yb = get_batch()
    logits, loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 10 == 9:
        print(f"step {step}: loss {loss.item():.4f}, norm {norm:.4f}, lr {scheduler.get_last_lr()[0]:.5f}")
model.eval()
context = data[None, :4]
with torch.no_grad():
    for _ in range(8):
        logits, _ = model(context[:, -BLOCK:])
        context = torch.cat((context, logits[:, -1:].argmax(-1)), dim=1)
print("".join(chars[i] for i in context[0].tolist()), F.softmax(logits[0, -1], -1).topk(3))
