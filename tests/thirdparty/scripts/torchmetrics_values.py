"""torchmetrics: metrics of binary and many-class predictions, batch by batch and at once."""

import pickle

import torch
import torchmetrics
import torchmetrics.functional as metrics

torch.manual_seed(0)
scores, truth = torch.rand(50), torch.randint(0, 2, (50,))
probabilities, classes = torch.randn(60, 4).softmax(-1), torch.randint(0, 4, (60,))

for name in ("Accuracy", "F1Score", "Precision", "ConfusionMatrix", "AUROC", "AveragePrecision"):
    metric = getattr(torchmetrics, name)(task="binary")
    for start in range(0, 50, 10):
        metric.update(scores[start:start + 10], truth[start:start + 10])
    print("binary", name, metric.compute().tolist())
print("binned AUROC", torchmetrics.AUROC(task="binary", thresholds=20)(scores, truth).item())
print("ROC", *torchmetrics.ROC(task="binary", thresholds=5)(scores, truth))

options = {"task": "multiclass", "num_classes": 4}
for name in ("Accuracy", "F1Score", "AUROC"):
    for average in ("macro", "weighted", "none", "micro")[:3 if name == "AUROC" else 4]:
        metric = getattr(torchmetrics, name)(average=average, **options)
        for start in range(0, 60, 20):
            metric(probabilities[start:start + 20], classes[start:start + 20])
        print(name, average, metric.compute().tolist())
print("top 2", torchmetrics.Accuracy(top_k=2, **options)(probabilities, classes).item())
for normalize in (None, "true", "all", "pred"):
    print("confusion", normalize, torchmetrics.ConfusionMatrix(normalize=normalize, **options)(probabilities, classes))
for name in ("MatthewsCorrCoef", "CohenKappa", "JaccardIndex", "CalibrationError"):
    print(name, getattr(torchmetrics, name)(**options)(probabilities, classes).item())

several = torchmetrics.MetricCollection([torchmetrics.Accuracy(**options), torchmetrics.F1Score(**options)])
print(several(probabilities, classes), several)
print(metrics.auroc(probabilities, classes, **options), metrics.f1_score(probabilities, classes, **options))

error = torchmetrics.MeanSquaredError()
print(error(scores, truth.float()).item())
error.reset()
print(pickle.loads(pickle.dumps(error))(scores[:3], scores[1:4]).item(), error.device)
network = torch.nn.Module()
network.accuracy = torchmetrics.Accuracy(task="binary")
print(dict(network.state_dict()), len(list(network.children())))
