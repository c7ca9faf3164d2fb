"""XGrad-CAM: class activation maps whose channel weights follow from two axioms :cite:`fu2020xgradcam`.

Equation numbers are those of the chapter; (5) is Eq. (5) of the paper as well. The package's files:
``activation_maps`` (the maps and their weights), ``axioms`` (the two axioms and the identity behind them) and
``baselines`` (weights of other methods, to compare with).
"""

from compactvision.explanation.xgrad_cam.activation_maps import XGradCAM, xgrad_cam_weights
from compactvision.explanation.xgrad_cam.axioms import bias_term, channel_drops

__all__ = ["XGradCAM", "bias_term", "channel_drops", "xgrad_cam_weights"]
