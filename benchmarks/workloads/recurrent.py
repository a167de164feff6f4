"""Sentiment of texts with a bidirectional LSTM over packed sequences."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads.work import Work, training_step

STEPS, TEXTS, VOCABULARY, EMBEDDING, HIDDEN = 64, 32, 10_000, 100, 256
# Descending, as packing wants them; 1,280 of the 2,048 places hold a word.
LENGTHS = [64, 62, 61, 59, 58, 56, 55, 53, 52, 50, 49, 47, 46, 44, 43, 41,
           39, 38, 36, 35, 33, 32, 30, 29, 27, 26, 24, 23, 21, 20, 16, 11]  # fmt: skip


def bidirectional_lstm(torch: Any, part: Any) -> Work:
    """Embedding, two bidirectional layers of 256 with dropout one half, a linear read-out of the last states."""
    nn = torch.nn
    pack, unpack = nn.utils.rnn.pack_padded_sequence, nn.utils.rnn.pad_packed_sequence

    class Sentiment(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, EMBEDDING, padding_idx=0)
            self.rnn = nn.LSTM(EMBEDDING, HIDDEN, num_layers=2, bidirectional=True, dropout=0.5)
            self.fc = nn.Linear(2 * HIDDEN, 1)
            self.dropout = nn.Dropout(0.5)

        def forward(self, text: Any, lengths: Any) -> Any:
            words = self.dropout(self.embedding(text))  # (T, N, E)
            outputs, (hidden, _) = self.rnn(pack(words, lengths.cpu()))
            unpack(outputs)  # not used for the answer; the tutorial's forward does it all the same
            last = torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1)  # (N, 2H)
            return self.fc(self.dropout(last))

    model = Sentiment()
    optimizer = torch.optim.Adam(model.parameters())
    criterion = nn.BCEWithLogitsLoss()
    lengths = torch.tensor(LENGTHS)
    real = (torch.arange(STEPS).unsqueeze(1) < lengths.unsqueeze(0)).long()
    batches = [
        (
            torch.randint(1, VOCABULARY, (STEPS, TEXTS)) * real,
            lengths,
            torch.randint(0, 2, (TEXTS,)).float(),
        )
        for _ in range(2)
    ]

    def loss_of(text: Any, lengths: Any, label: Any) -> Any:
        return criterion(model(text, lengths).squeeze(1), label)

    return Work(training_step(loss_of, optimizer, part), batches, [model, optimizer])
