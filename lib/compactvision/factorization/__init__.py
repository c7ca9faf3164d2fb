"""Methods that write a kernel as a product of smaller ones; one module or package for each paper."""

from compactvision._lazy import lazy

__all__ = ["admm_tensor_train", "collaborative_compression"]
__getattr__, __dir__ = lazy(__name__, __all__)
