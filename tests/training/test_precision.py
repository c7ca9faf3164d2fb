"""The number format that a device is trained in."""

import pytest
import torch
from compactvision import training


@pytest.mark.parametrize(("device", "native", "expected"), [("cuda", True, "bf16"), ("cuda", False, "fp16")])
def test_gpu_takes_bf16_only_where_native(monkeypatch, device, native, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    assert training.fast_precision(torch.device(device)) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "fp32"), ({}, "fp32")]
)
def test_processor_takes_bf16_only_with_amx(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert training.fast_precision(torch.device("cpu")) == expected
