"""Code shown beside equations is the package's code, docstrings and checks of arguments aside."""

import json

import pytest
from compactvision import plots, surgery
from compactvision.explanation import evidence
from compactvision.explanation.xgrad_cam import activation_maps


def test_code_without_docstrings():
    shown = plots.source(activation_maps.weighted_map, activation_maps.grad_cam_weights)
    assert shown.text.splitlines() == [
        "def weighted_map(activation: Tensor, weights: Tensor) -> Tensor:",
        '    return torch.einsum("bkhw,bk->bhw", wide(activation), wide(weights)).to(activation.dtype)',
        "",
        "",
        "def grad_cam_weights(gradient: Tensor) -> Tensor:",
        "    return wide(gradient).mean((2, 3)).to(gradient.dtype)",
        "",
        "# compactvision/explanation/xgrad_cam/activation_maps.py",
    ]
    assert shown.markdown.startswith("```python\ndef weighted_map")


def test_checks_of_arguments_are_left_out_and_other_calls_stay():
    shown = plots.source(surgery.multiply, surgery.iterate)
    assert "checks." not in shown.text
    assert "if x.ndim < 2" in shown.text
    assert "            tune(model)" in shown.text


def test_classes_keep_their_bodies_and_markup_is_escaped():
    shown = plots.source(activation_maps.XGradCAM, evidence.enlarged)
    assert '"""' not in shown.text
    assert "def raw(self" in shown.text
    assert "    def __call__" in shown.text
    assert (
        "# compactvision/explanation/xgrad_cam/activation_maps.py, compactvision/explanation/evidence.py" in shown.text
    )
    assert "-&gt;" in shown.markup
    assert 'class="highlight"' in shown.markup


@pytest.mark.parametrize("functions", [(), (json.dumps,)])
def test_only_this_package(functions):
    with pytest.raises(ValueError, match="functions"):
        plots.source(*functions)
