"""Networks to work on: CIFAR ResNets and VGGs with exact counts, a small CNN, torchvision's for ImageNet sizes."""

from compactvision.models.layers import ChannelMap, initialise_, option_a_shortcut
from compactvision.models.resnet import BasicBlock, ResNet, resnet20, resnet32, resnet44, resnet56, resnet110
from compactvision.models.small import SmallCNN, small_cnn
from compactvision.models.torchvision_models import imagenet
from compactvision.models.vgg import VGG, vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn

__all__ = [
    "VGG",
    "BasicBlock",
    "ChannelMap",
    "ResNet",
    "SmallCNN",
    "imagenet",
    "initialise_",
    "option_a_shortcut",
    "resnet20",
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "small_cnn",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
]
