"""What the model builders share: trained weights by name, the old `pretrained=True`, and the list of models."""

from __future__ import annotations

import enum
import fnmatch
import functools
import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flambeau import hub
from flambeau.nn import Module
from flambeau.vision.transforms.modes import InterpolationMode
from flambeau.vision.transforms.presets import ImageClassification

ADDRESS = "https://download.pytorch.org/models/"
DATA = Path(__file__).parent / "data"
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

    def get_state_dict(self, **options: Any) -> dict[str, Any]:
        """The parameters, from the hub's folder or fetched into it; options of `hub.load_state_dict_from_url`."""
        return hub.load_state_dict_from_url(self.url, **{"check_hash": True, "weights_only": True, **options})

    def __repr__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


@functools.lru_cache(maxsize=1)
def _recorded() -> dict[str, dict[str, Any]]:
    """What torchvision knows of its weights, by enum and member; `tools/record_weights.py` wrote it down."""
    return json.loads((DATA / "weights.json").read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1)
def _classes() -> list[str]:
    """The names of ImageNet's 1000 classes, in the order of the networks' outputs."""
    return (DATA / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()


def imagenet_weights(name: str) -> Any:
    """The enum called `name` of torchvision's weights for one model, with DEFAULT for the best of them.

    `meta` has torchvision's `categories`, `num_params`, `min_size`, `recipe`, `_metrics` (`acc@1` and `acc@5` in
    percent), `_ops` (billions of multiply-adds) and `_file_size` (MiB), and `license` where it is not torchvision's.
    """
    recorded = dict(_recorded()[name])
    default = recorded.pop("DEFAULT")
    members = {member: _weights(facts) for member, facts in recorded.items()}
    members["DEFAULT"] = members[default]
    return WeightsEnum(name, members, module=__name__.rpartition(".")[0])  # type: ignore[call-arg]


def _weights(facts: dict[str, Any]) -> Weights:
    settings: dict[str, Any] = {key: facts[key] for key in ("crop_size", "resize_size", "mean", "std") if key in facts}
    if "interpolation" in facts:
        settings["interpolation"] = InterpolationMode(facts["interpolation"])
    meta: dict[str, Any] = {key: facts[key] for key in ("num_params", "recipe", "license") if key in facts}
    meta["min_size"] = tuple(facts["min_size"])
    meta["categories"] = None if "features_only" in facts else _classes()
    meta["_metrics"] = {"ImageNet-1K": {key: facts.get(key, math.nan) for key in ("acc@1", "acc@5")}}
    meta["_ops"], meta["_file_size"] = facts["ops"], facts["file_size"]
    return Weights(ADDRESS + facts["file"], functools.partial(ImageClassification, **settings), meta)


def builder(
    weights_enum: type[WeightsEnum] | None = None, *, trained: Mapping[str, Any] | None = None,
    usual: Mapping[str, Any] | None = None, sized: Callable[[tuple[int, int]], dict[str, Any]] | None = None,
    renamed: Callable[[str], str] | None = None, after: Callable[[Module, dict[str, Any]], None] | None = None,
) -> Callable[[Build], Build]:
    """Make a function of layer options into a public builder `name(*, weights=None, progress=True, **options)`.

    Args:
        weights_enum: the trained weights there are.
        trained: options the trained weights were made with; they hold when weights are loaded.
        usual: options that hold when weights are loaded, unless the caller says otherwise.
        sized: options that follow from the size of image the weights are for, where the network has one.
        renamed: the parameter's name here for its name in the file.
        after: called with the loaded network and the caller's options, to undo what only the file needed.
    """

    def decorate(build: Build) -> Build:
        @functools.wraps(build)
        def public(*old: Any, weights: Any = None, progress: bool = True, **options: Any) -> Module:
            weights = _chosen_weights(build.__name__, weights_enum, weights, old, options)
            if weights is None:
                return build(**options)
            fixed = {"num_classes": 1000, **(sized(weights.meta["min_size"]) if sized else {})}
            for option, value in fixed.items():
                if options.setdefault(option, value) != value:
                    raise ValueError(f"{option}: the weights are for {value}, got {options[option]}")
            network = build(**{**(usual or {}), **options, **(trained or {})})
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
