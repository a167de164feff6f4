"""What is a paragraph about? A bidirectional LSTM that reads sentences of different lengths as a packed sequence.

Shows: a vocabulary, padding in `collate_fn`, `pack_padded_sequence`, the last state of each direction, gradient
    clipping.
Data: a real corpus that every Python brings along: the docstrings of its standard library, cut into paragraphs and
    labelled by what their module deals with (files, network, numbers, processes). The docstrings differ a little
    from one version of Python to the next, and so does the result.
Run: python examples/text_lstm.py [--epochs 8] [--limit 800] [--out runs/text_lstm]
Expect: about 80 % of the held-out paragraphs right (chance: 25 %), and result.png with curves and confusion matrix.
"""

import argparse
import ast
import re
import sysconfig
from collections import Counter
from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt

import flambeau as torch
from flambeau import nn
from flambeau.nn.utils.rnn import pack_padded_sequence, pad_sequence
from flambeau.utils.data import DataLoader

plt.switch_backend("agg")

FAMILIES = {
    "files": "os shutil tarfile zipfile tempfile glob gzip bz2 fileinput filecmp posixpath mailbox csv configparser",
    "network": "http urllib email ftplib smtplib imaplib poplib socket socketserver ssl xmlrpc ipaddress selectors",
    "numbers": "fractions _pydecimal statistics random numbers datetime _pydatetime calendar colorsys heapq operator",
    "processes": "threading asyncio multiprocessing concurrent queue subprocess sched contextlib signal",
}
CLASSES = list(FAMILIES)
PADDING, UNKNOWN = 0, 1  # numbers in the vocabulary that are no words


def paragraphs(module):
    """The paragraphs of 5 to 60 words in the docstrings of a module of the standard library, as lists of words."""
    library = Path(sysconfig.get_path("stdlib"))
    files = [*library.glob(f"{module}.py"), *sorted((library / module).rglob("*.py"))]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                for paragraph in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                    words = re.findall("[a-z]+", paragraph.lower())
                    if 5 <= len(words) <= 60:
                        yield words


def corpus(limit):
    """The first `limit` different paragraphs of each family, shuffled: pairs of words and class."""
    examples = []
    for label, modules in enumerate(FAMILIES.values()):
        found = {}
        for words in chain.from_iterable(map(paragraphs, modules.split())):
            found[" ".join(words)] = (words, label)
            if len(found) == limit:
                break
        examples += found.values()
    return [examples[i] for i in torch.randperm(len(examples)).tolist()]


def vocabulary(examples, least=2):
    """The words that occur at least twice, numbered from 2."""
    counts = Counter(word for words, _ in examples for word in words)
    return {word: number for number, word in enumerate((w for w, n in counts.items() if n >= least), start=2)}


def collate(batch):
    """Sequences of numbers padded to the longest (N, T), their lengths (N,) and labels (N,)."""
    sequences, labels = zip(*batch)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return pad_sequence(sequences, batch_first=True, padding_value=PADDING), lengths, torch.tensor(labels)


class TextClassifier(nn.Module):
    def __init__(self, num_words, num_classes, embedding_dim=32, hidden_dim=48, dropout=0.4):
        super().__init__()
        self.embedding = nn.Embedding(num_words, embedding_dim, padding_idx=PADDING)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * hidden_dim, num_classes)

    def forward(self, words, lengths):
        embedded = self.dropout(self.embedding(words))  # (N, T, embedding_dim)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)  # (2, N, hidden_dim): after the last word, and back at the first
        return self.classifier(self.dropout(torch.cat([hidden[0], hidden[1]], dim=1)))


def train_epoch(model, loader, optimizer):
    model.train()
    total = 0.0
    for words, lengths, labels in loader:
        loss = nn.functional.cross_entropy(model(words, lengths), labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item() * len(labels)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    """A matrix that counts how often class i (row) was taken for class j (column)."""
    model.eval()
    confusion = torch.zeros(len(CLASSES), len(CLASSES))
    for words, lengths, labels in loader:
        confusion.index_put_((labels, model(words, lengths).argmax(1)), torch.tensor(1.0), accumulate=True)
    return confusion


def draw(losses, accuracies, confusion, path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    epochs = range(1, len(losses) + 1)
    left.plot(epochs, losses, "o-", label="training loss")
    left.plot(epochs, accuracies, "o-", label="accuracy on held-out paragraphs")
    left.set(xlabel="epoch", ylim=(0, None))
    left.grid(alpha=0.25)
    left.legend(frameon=False)
    shares = confusion / confusion.sum(1, keepdim=True)
    right.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(shares.tolist()):
        for j, share in enumerate(row):
            right.text(j, i, f"{share:.0%}", ha="center", va="center", color="white" if share > 0.5 else "black")
    ticks = range(len(CLASSES))
    right.set(xlabel="answer", ylabel="module deals with", xticks=ticks, yticks=ticks)
    right.set(xticklabels=CLASSES, yticklabels=CLASSES)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, default=800, help="paragraphs per family")
    parser.add_argument("--out", type=Path, default=Path("runs/text_lstm"))
    args = parser.parse_args(argv)

    torch.manual_seed(0)
    examples = corpus(args.limit)
    held_out = len(examples) // 5
    words = vocabulary(examples[held_out:])
    print(f"{len(examples)} paragraphs, {len(words)} words; {held_out} paragraphs are held out")
    numbered = [(torch.tensor([words.get(word, UNKNOWN) for word in text]), label) for text, label in examples]
    train_loader = DataLoader(numbered[held_out:], batch_size=32, shuffle=True, collate_fn=collate)
    test_loader = DataLoader(numbered[:held_out], batch_size=128, collate_fn=collate)

    model = TextClassifier(len(words) + 2, len(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    losses, accuracies = [], []
    for epoch in range(1, args.epochs + 1):
        losses.append(train_epoch(model, train_loader, optimizer))
        confusion = evaluate(model, test_loader)
        accuracies.append(confusion.trace().item() / held_out)
        print(f"epoch {epoch}: training loss {losses[-1]:.4f}, accuracy {accuracies[-1]:.1%}")

    args.out.mkdir(parents=True, exist_ok=True)
    draw(losses, accuracies, confusion, args.out / "result.png")
    return {"losses": losses, "accuracy": accuracies[-1]}


if __name__ == "__main__":
    main()
