"""Networks for images, under torchvision's names: classes in upper case, builders in lower case."""

from flambeau.vision.models._api import (
    Weights,
    WeightsEnum,
    get_model,
    get_model_builder,
    get_model_weights,
    get_weight,
    list_models,
)
from flambeau.vision.models.alexnet import *  # noqa: F403
from flambeau.vision.models.convnext import *  # noqa: F403
from flambeau.vision.models.densenet import *  # noqa: F403
from flambeau.vision.models.efficientnet import *  # noqa: F403
from flambeau.vision.models.googlenet import *  # noqa: F403
from flambeau.vision.models.inception import *  # noqa: F403
from flambeau.vision.models.maxvit import *  # noqa: F403
from flambeau.vision.models.mnasnet import *  # noqa: F403
from flambeau.vision.models.mobilenetv2 import *  # noqa: F403
from flambeau.vision.models.mobilenetv3 import *  # noqa: F403
from flambeau.vision.models.regnet import *  # noqa: F403
from flambeau.vision.models.resnet import *  # noqa: F403
from flambeau.vision.models.shufflenetv2 import *  # noqa: F403
from flambeau.vision.models.squeezenet import *  # noqa: F403
from flambeau.vision.models.swin_transformer import *  # noqa: F403
from flambeau.vision.models.vgg import *  # noqa: F403
from flambeau.vision.models.vision_transformer import *  # noqa: F403
