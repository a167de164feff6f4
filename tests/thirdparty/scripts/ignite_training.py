"""pytorch-ignite: a training loop with metrics, events, schedules, checkpoints and early stopping."""

import os
import tempfile

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.engine.deterministic import DeterministicEngine
from ignite.handlers import EarlyStopping, LRScheduler, ModelCheckpoint, Timer
from ignite.metrics import Accuracy, ConfusionMatrix, Loss, Precision, Recall, RunningAverage
from ignite.utils import manual_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

manual_seed(3)
x = torch.randn(200, 4)
y = (x[:, 0] + x[:, 1] > 0).long() + (x[:, 2] > 0.5).long()
loader = DataLoader(TensorDataset(x, y), batch_size=20, shuffle=True)
held_out = DataLoader(TensorDataset(x[:60], y[:60]), batch_size=20)
network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.SGD(network.parameters(), lr=0.5, momentum=0.9)

trainer = create_supervised_trainer(network, optimizer, nn.CrossEntropyLoss())
evaluator = create_supervised_evaluator(network, metrics={
    "accuracy": Accuracy(), "loss": Loss(nn.CrossEntropyLoss()), "precision": Precision(average=True),
    "recall": Recall(), "confusion": ConfusionMatrix(3),
})
RunningAverage(output_transform=lambda output: output).attach(trainer, "running")
Timer().attach(trainer)
trainer.add_event_handler(Events.EPOCH_STARTED, LRScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)))
folder = tempfile.TemporaryDirectory()
checkpoint = ModelCheckpoint(folder.name, "best", n_saved=1, score_name="accuracy",
                             score_function=lambda engine: engine.state.metrics["accuracy"])
evaluator.add_event_handler(Events.COMPLETED, checkpoint, {"network": network, "optimizer": optimizer})
patience = EarlyStopping(1, lambda engine: -engine.state.metrics["loss"], trainer)
evaluator.add_event_handler(Events.COMPLETED, patience)


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    evaluator.run(held_out)
    print(engine.state.epoch, engine.state.metrics, evaluator.state.metrics, optimizer.param_groups[0]["lr"])


@trainer.on(Events.ITERATION_COMPLETED(every=25))
def report(engine):
    print("iteration", engine.state.iteration, engine.state.output)


print("epochs", trainer.run(loader, max_epochs=6).epoch)
files = os.listdir(folder.name)
kept = torch.load(os.path.join(folder.name, files[0]))
print(files, sorted(kept))
checkpoint.load_objects({"network": network, "optimizer": optimizer}, kept)
print(evaluator.run(held_out).metrics["accuracy"])

sums = []
repeatable = DeterministicEngine(lambda engine, batch: float(batch[0].sum()))
repeatable.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: sums.append(engine.state.output))
repeatable.run(loader, max_epochs=2)
print(sums[:4], sums[-2:])
print(Engine(lambda engine, batch: batch * 2).run(torch.arange(3), max_epochs=1).output)
