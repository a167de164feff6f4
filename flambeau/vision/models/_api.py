"""What the model builders share: trained weights by name, the old `pretrained=True`, and the list of models."""

from __future__ import annotations

import enum
import fnmatch
import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flambeau import hub
from flambeau.nn import Module

ADDRESS = "https://download.pytorch.org/models/"
_BUILDERS: dict[str, Callable[..., Module]] = {}
_WEIGHTS: dict[str, type[WeightsEnum]] = {}
Build = TypeVar("Build", bound=Callable[..., Module])


@dataclass(frozen=True)
class Weights:
    """A file of trained weights: where it is, the transforms its images want, and facts about it."""

    url: str
    transforms: Callable[..., Any]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.url)


class WeightsEnum(enum.Enum):
    """The trained weights of one model; DEFAULT is the best of them."""

    @property
    def url(self) -> str:
        return self.value.url

    @property
    def transforms(self) -> Callable[..., Any]:
        return self.value.transforms

    @property
    def meta(self) -> Mapping[str, Any]:
        return self.value.meta

    @classmethod
    def verify(cls, given: Any) -> WeightsEnum | None:
        """The member meant by a member, by its name (or `ResNet18_Weights.DEFAULT`), or None for None."""
        if given is None or isinstance(given, cls):
            return given
        if isinstance(given, str):
            name = given.removeprefix(f"{cls.__name__}.")
            if name in cls.__members__:
                return cls[name]
            raise KeyError(f"{cls.__name__} has no {name!r}; it has {', '.join(cls.__members__)}")
        raise TypeError(f"weights: expected a {cls.__name__} or its name, got {type(given).__name__}")

    def get_state_dict(self, progress: bool = True, check_hash: bool = True) -> dict[str, Any]:
        """The parameters, from the hub's folder or fetched into it."""
        return hub.load_state_dict_from_url(self.url, progress=progress, check_hash=check_hash, weights_only=True)


def imagenet_weights(
    name: str, files: Iterable[str], crop_size: Any = 224, resize_size: Any = 256, interpolation: Any = "bilinear",
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406), std: tuple[float, float, float] = (0.229, 0.224, 0.225),
) -> Any:
    """The enum called `name` with members IMAGENET1K_V1, V2, … for `files`, and DEFAULT for the last of them.

    `crop_size`, `resize_size` and `interpolation` are one value for all files, or a tuple with one for each.
    """
    files = list(files)
    per_file = [
        value if isinstance(value, tuple) else (value,) * len(files)
        for value in (crop_size, resize_size, interpolation)
    ]
    members = {}
    for number, (file, crop, resize, method) in enumerate(zip(files, *per_file, strict=True), 1):
        transforms = functools.partial(
            _classification, crop_size=crop, resize_size=resize, interpolation=method, mean=mean, std=std
        )
        members[f"IMAGENET1K_V{number}"] = Weights(ADDRESS + file, transforms)
    members["DEFAULT"] = members[f"IMAGENET1K_V{len(files)}"]
    return WeightsEnum(name, members, module=__name__.rpartition(".")[0])  # type: ignore[call-arg]


def _classification(
    *, crop_size: int, resize_size: int, interpolation: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Any:
    """Resize, crop the centre, scale to 0…1 and normalise, as the network was trained."""
    from flambeau.vision import transforms as t

    return t.Compose([
        t.Resize(resize_size, interpolation=t.InterpolationMode(interpolation)),
        t.CenterCrop(crop_size),
        t.ToTensor(),
        t.Normalize(mean=mean, std=std),
    ])


def builder(
    weights_enum: type[WeightsEnum] | None = None, *, trained: Mapping[str, Any] | None = None,
    renamed: Callable[[str], str] | None = None, after: Callable[[Module, dict[str, Any]], None] | None = None,
) -> Callable[[Build], Build]:
    """Make a function of layer options into a public builder `name(*, weights=None, progress=True, **options)`.

    Args:
        weights_enum: the trained weights there are.
        trained: options the trained weights were made with; they hold when weights are loaded.
        renamed: the parameter's name here for its name in the file.
        after: called with the loaded network and the caller's options, to undo what only the file needed.
    """

    def decorate(build: Build) -> Build:
        @functools.wraps(build)
        def public(*old: Any, weights: Any = None, progress: bool = True, **options: Any) -> Module:
            weights = _chosen_weights(build.__name__, weights_enum, weights, old, options)
            if weights is None:
                return build(**options)
            if options.get("num_classes", 1000) != 1000:
                raise ValueError(f"num_classes: the weights are for 1000 classes, got {options['num_classes']}")
            network = build(**{**options, **(trained or {})})
            state = weights.get_state_dict(progress=progress)
            network.load_state_dict({renamed(name): value for name, value in state.items()} if renamed else state)
            if after is not None:
                after(network, options)
            return network

        _BUILDERS[build.__name__] = public
        if weights_enum is not None:
            _WEIGHTS[build.__name__] = weights_enum
        return public  # type: ignore[return-value]

    return decorate


def _chosen_weights(
    name: str, known: type[WeightsEnum] | None, weights: Any, old: tuple[Any, ...], options: dict[str, Any]
) -> WeightsEnum | None:
    """The weights asked for in any of the spellings torchvision has had."""
    if len(old) > 1:
        raise TypeError(f"{name}() takes at most one positional argument, the weights; {len(old)} were given")
    if old:
        weights = old[0]
    if "pretrained" in options:
        warnings.warn(
            "The parameter 'pretrained' is deprecated since 0.13 and may be removed in the future, "
            "please use 'weights' instead.", UserWarning, stacklevel=3,
        )
        weights = options.pop("pretrained")
    if isinstance(weights, bool):
        warnings.warn(
            "Arguments other than a weight enum or `None` for 'weights' are deprecated since 0.13 and may be removed "
            "in the future. True means the first weights published, IMAGENET1K_V1.", UserWarning, stacklevel=3,
        )
        weights = "IMAGENET1K_V1" if weights else None
    if weights is None:
        return None
    if known is None:
        raise ValueError(f"No checkpoint is available for model {name}")
    return known.verify(weights)


def list_models(include: str | Iterable[str] | None = None, exclude: str | Iterable[str] | None = None) -> list[str]:
    """Names of the models in order; `include` and `exclude` are patterns (`resnet*`) or several of them."""
    names = set(_BUILDERS)
    if include is not None:
        names = _matching(names, include)
    return sorted(names - _matching(names, exclude or ()))


def _matching(names: set[str], patterns: str | Iterable[str]) -> set[str]:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    return {name for pattern in patterns for name in fnmatch.filter(names, pattern)}


def get_model_builder(name: str) -> Callable[..., Module]:
    """The builder of a model by its name; ValueError for an unknown one."""
    try:
        return _BUILDERS[name.lower()]
    except KeyError:
        raise ValueError(f"Unknown model {name}") from None


def get_model(name: str, **options: Any) -> Module:
    """The model of that name: `get_model("resnet18", weights=None, num_classes=10)`."""
    return get_model_builder(name)(**options)


def get_model_weights(name: str | Callable[..., Module]) -> type[WeightsEnum]:
    """The enum of a model's trained weights."""
    key = name if isinstance(name, str) else name.__name__
    get_model_builder(key)
    try:
        return _WEIGHTS[key.lower()]
    except KeyError:
        raise ValueError(f"No checkpoint is available for model {key}") from None


def get_weight(name: str) -> WeightsEnum:
    """The weights written `ResNet50_Weights.IMAGENET1K_V2`."""
    owner, _, member = name.partition(".")
    for known in _WEIGHTS.values():
        if known.__name__ == owner and member in known.__members__:
            return known[member]
    raise ValueError(f"Unknown weights {name}")
