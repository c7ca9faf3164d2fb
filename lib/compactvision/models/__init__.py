"""Networks to work on: CIFAR networks with exact counts, a small CNN, torchvision's for ImageNet sizes."""

from compactvision.models.deepening import deepened
from compactvision.models.densenet_cifar import DenseNet, densenet40
from compactvision.models.efficientnet_lite import EfficientNetLite, efficientnet_lite0
from compactvision.models.googlenet_cifar import GoogLeNet, googlenet
from compactvision.models.imagenet_weights import imagenet_classes
from compactvision.models.layers import ChannelMap, initialise_, option_a_shortcut
from compactvision.models.preresnet_cifar import PreResNet, preresnet110, preresnet164
from compactvision.models.resnet import BasicBlock, ResNet, resnet20, resnet32, resnet44, resnet56, resnet110
from compactvision.models.shipped import available, pretrained, pretrained_record
from compactvision.models.small import SmallCNN, small_cnn
from compactvision.models.torchvision_models import imagenet
from compactvision.models.vgg import VGG, vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn

__all__ = [
    "VGG",
    "BasicBlock",
    "ChannelMap",
    "DenseNet",
    "EfficientNetLite",
    "GoogLeNet",
    "PreResNet",
    "ResNet",
    "SmallCNN",
    "available",
    "deepened",
    "densenet40",
    "efficientnet_lite0",
    "googlenet",
    "imagenet",
    "imagenet_classes",
    "initialise_",
    "option_a_shortcut",
    "preresnet110",
    "preresnet164",
    "pretrained",
    "pretrained_record",
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
