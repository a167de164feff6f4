"""A small transformer encoder (Vaswani et al. 2017, pre-norm) that classifies sequences of tokens."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads.work import Work, training_step

LAYERS, WIDTH, HEADS, INNER, DROPOUT = 4, 256, 4, 1024, 0.1
BATCH, LENGTH, VOCABULARY, CLASSES = 32, 128, 8192, 10


def classifier(torch: Any, part: Any) -> Work:
    """Token and position embeddings, four blocks, layer norm, mean over the sequence, a linear layer."""
    nn, F = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln1, self.ln2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
            self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)
            self.drop = nn.Dropout(DROPOUT)

        def forward(self, x: Any) -> Any:
            n, t, d = x.shape
            q, k, v = self.qkv(self.ln1(x)).view(n, t, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4)  # (N, H, T, D/H)
            attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
            x = x + self.drop(self.proj(attended))
            return x + self.drop(self.down(F.gelu(self.up(self.ln2(x)))))

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tok = nn.Embedding(VOCABULARY, WIDTH)
            self.pos = nn.Embedding(LENGTH, WIDTH)
            self.drop = nn.Dropout(DROPOUT)
            self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
            self.ln = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, CLASSES)

        def forward(self, tokens: Any) -> Any:
            x = self.drop(self.tok(tokens) + self.pos(torch.arange(tokens.size(1))))  # (N, T, D)
            for block in self.blocks:
                x = block(x)
            return self.head(self.ln(x).mean(dim=1))

    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    batches = [(torch.randint(0, VOCABULARY, (BATCH, LENGTH)), torch.randint(0, CLASSES, (BATCH,))) for _ in range(2)]
    step = training_step(lambda x, y: F.cross_entropy(model(x), y), optimizer, part)
    return Work(step, batches, [model, optimizer])
