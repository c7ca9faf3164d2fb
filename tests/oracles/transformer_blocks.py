"""Transformer blocks with masked dimensions the slow way: images, windows and heads one after the other."""

import torch
from torch import nn


def attention(layer, x, masks, window=None, shift=(0, 0)):
    """x (H, W, C) in windows, or (N, C), through torchvision's attention with dimensions of these masks alone."""
    if isinstance(layer, nn.MultiheadAttention):
        weight, bias, project = layer.in_proj_weight, layer.in_proj_bias, layer.out_proj
    else:
        weight, bias, project = layer.qkv.weight, layer.qkv.bias, layer.proj
    if window is None:
        return _attend(layer.num_heads, weight, bias, project, x, masks, None, None)
    rows, columns = window
    height, width, channels = x.shape
    tall, wide = -(-height // rows) * rows, -(-width // columns) * columns
    whole = x.new_zeros(tall, wide, channels)
    whole[:height, :width] = x
    down, right = shift[0] if tall > rows else 0, shift[1] if wide > columns else 0
    result = torch.zeros_like(whole)
    for top in range(0, tall, rows):
        for left in range(0, wide, columns):
            places = [((top + i + down) % tall, (left + j + right) % wide) for i in range(rows) for j in range(columns)]
            tokens = torch.stack([whole[place] for place in places])
            apart = torch.zeros(len(places), len(places), dtype=torch.bool)
            for a, (ya, xa) in enumerate(places):
                for b, (yb, xb) in enumerate(places):  # a window may hang over the edge; the two sides are strangers
                    apart[a, b] = ((ya < top) != (yb < top)) or ((xa < left) != (xb < left))
            table = layer.relative_position_bias_table
            position = x.new_zeros(layer.num_heads, len(places), len(places))
            for a in range(len(places)):
                for b in range(len(places)):
                    dy, dx = a // columns - b // columns, a % columns - b % columns
                    position[:, a, b] = table[(dy + rows - 1) * (2 * columns - 1) + dx + columns - 1]
            made = _attend(layer.num_heads, weight, bias, project, tokens, masks, position, apart)
            for place, token in zip(places, made, strict=True):
                result[place] = token
    return result[:height, :width]


def _attend(heads, weight, bias, project, x, masks, position, apart):
    width = x.shape[1]
    size = width // heads
    x = x * masks["attention_input"]
    query, key, value = (x @ w.T + b for w, b in zip(weight.split(width), bias.split(width), strict=True))
    result = project.bias.expand(len(x), width).clone()
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        logits = (query[:, part] * masks["qk"][head]) @ key[:, part].T / size**0.5
        if position is not None:
            logits = (logits + position[head]).masked_fill(apart, -torch.inf)
        found = logits.softmax(1) @ (value[:, part] * masks["v"][head])
        result += found @ project.weight[:, part].T
    return result


def mlp(layers, x, masks):
    """x (N, C) through linear, GELU, linear with dimensions of these masks alone."""
    first, second = (layer for layer in layers if isinstance(layer, nn.Linear))
    hidden = nn.functional.gelu((x * masks["mlp_input"]) @ first.weight.T + first.bias) * masks["hidden"]
    return hidden @ second.weight.T + second.bias


def block(module, x, masks):
    """One image (H, W, C) through torchvision's Swin block, or tokens (N, C) through its ViT block."""
    if hasattr(module, "self_attention"):
        x = x + attention(module.self_attention, module.ln_1(x), masks)
        return x + mlp(module.mlp, module.ln_2(x), masks)
    attn = module.attn
    x = x + attention(attn, module.norm1(x), masks, attn.window_size, attn.shift_size)
    tokens = module.norm2(x).flatten(0, 1)
    return x + mlp(module.mlp, tokens, masks).view_as(x)
