"""Operators that no convention counts: elementwise arithmetic, movement, reductions, normalisation, interpolation.

:class:`~compactvision.measure.operations.OperationCounter` passes these over; an operator that is neither here nor has
a formula there is refused, so that nothing counts as zero because it is unknown.
"""

from __future__ import annotations

import torch

_CREATED = """
arange bartlett_window bernoulli blackman_window cauchy empty empty_like empty_permuted empty_strided exponential eye
full full_like geometric hamming_window hann_window kaiser_window lift lift_fresh lift_fresh_copy linspace log_normal
logspace multinomial new_empty new_empty_strided new_full new_ones new_zeros normal normal_functional ones ones_like
poisson rand rand_like randint randint_like randn randn_like random randperm scalar_tensor tril_indices triu_indices
uniform zeros zeros_like
"""
_MOVED = """
_assert_async _conj_physical _copy_from _embedding_bag _embedding_bag_forward_only _index_put_impl _local_scalar_dense
_nested_tensor_from_mask _pack_padded_sequence _pad_packed_sequence _reshape_alias_copy _reshape_copy _to_copy
_unique2 _unsafe_index _unsafe_index_put _unsafe_masked_index _unsafe_view as_strided as_strided_copy
as_strided_scatter block_diag bucketize cat channel_shuffle clone col2im constant_pad_nd copy detach diag_embed
diagonal_copy diagonal_scatter embedding expand_copy flip gather im2col index index_copy index_fill index_put
index_select is_same_size isin masked_scatter masked_select max_unpool2d max_unpool3d native_channel_shuffle nonzero
nonzero_static permute_copy pixel_shuffle pixel_unshuffle put reflection_pad1d reflection_pad2d reflection_pad3d
repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d resize resize_as roll rot90 scatter
searchsorted select_copy select_scatter set slice_copy slice_scatter sort split_copy split_with_sizes_copy squeeze
squeeze_copy stack swapaxes swapdims t t_copy take topk transpose transpose_copy tril triu unbind_copy unfold_copy
unique_consecutive unique_dim unsafe_chunk unsafe_split unsafe_split_with_sizes unsqueeze unsqueeze_copy
view_as_complex view_as_real view_copy
"""
_ELEMENTWISE = """
_fused_dropout _fused_rms_norm _prelu_kernel _thnn_fused_gru_cell _thnn_fused_lstm_cell _weight_norm_interface addr
batch_norm_elemt binary_cross_entropy binary_cross_entropy_with_logits celu complex dequantize elu
fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask fill fmod gelu glu hardshrink
hardsigmoid hardswish hardtanh huber_loss leaky_relu linalg_cross log_sigmoid_forward mish mse_loss native_dropout
native_group_norm native_layer_norm polar prelu quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic
relu6 renorm rrelu_with_noise selu silu smooth_l1_loss soft_margin_loss softplus softshrink threshold where zero
"""
_REDUCED = """
_aminmax _log_softmax _masked_softmax _safe_softmax _softmax all allclose amax amin aminmax any argmax
argmin argsort bincount count_nonzero cummax cummin cumprod cumsum equal histc index_add index_reduce kthvalue
linalg_vector_norm logcumsumexp logsumexp max mean median min mode multi_margin_loss multilabel_margin_loss_forward
nanmedian nansum nll_loss2d_forward nll_loss_forward nll_loss_nd norm prod scatter_add scatter_reduce std std_mean sum
trace var var_mean
"""
_POOLED = """
_upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d
_upsample_nearest_exact3d adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d
grid_sampler_2d grid_sampler_3d max_pool3d_with_indices quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d
upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
upsample_trilinear3d
"""
_QUANTISED = """
add add_relu add_scalar add_scalar_relu batch_norm batch_norm1d batch_norm2d batch_norm2d_relu batch_norm3d
batch_norm_relu cat cat_relu celu dropout elu embedding_byte embedding_bag_byte group_norm hardswish instance_norm
layer_norm leaky_relu max_pool2d mul mul_relu mul_scalar mul_scalar_relu prelu relu6 sigmoid softmax
"""
_VISION = "nms ps_roi_align ps_roi_pool roi_align roi_pool"

_ATEN = frozenset(" ".join([_CREATED, _MOVED, _ELEMENTWISE, _REDUCED, _POOLED]).split())
_OTHER = frozenset(
    [f"quantized::{name}" for name in _QUANTISED.split()] + [f"torchvision::{name}" for name in _VISION.split()]
)


def is_uncounted(operator: torch._ops.OpOverload) -> bool:
    """Whether an operator is known to execute nothing that a convention counts; in-place forms are as the others."""
    space, name = operator.namespace, operator._schema.name
    if space != "aten":
        return space == "prim" or name in _OTHER
    plain = name.removeprefix("aten::").removesuffix("_")
    return plain in _ATEN or plain.startswith("_foreach_") or operator.is_view or torch.Tag.pointwise in operator.tags
