"""Slow, plain attention and what stands around it: lists of numbers, one place after the other."""

import math

import numpy as np


def array(tensor):
    """Return a tensor's numbers."""
    return tensor.detach().double().numpy()


def linear(x, layer):
    """x (N, C) through nn.Linear."""
    weight = array(layer.weight)
    bias = np.zeros(len(weight)) if layer.bias is None else array(layer.bias)
    return np.array([[sum(w * v for w, v in zip(row, token)) + b for row, b in zip(weight, bias)] for token in x])


def layer_norm(x, layer):
    """x (N, C) through nn.LayerNorm."""
    made = []
    for token in x:
        mean = sum(token) / len(token)
        variance = sum((value - mean) ** 2 for value in token) / len(token)
        made.append([(value - mean) / math.sqrt(variance + layer.eps) for value in token])
    return np.array(made) * array(layer.weight) + array(layer.bias)


def gelu(x):
    """Exact GELU of any array."""
    return np.vectorize(lambda value: value * 0.5 * (1 + math.erf(value / math.sqrt(2))))(x)


def attend(query, key, value, scale):
    """One head: (N, d), (M, d), (M, e) to (N, e)."""
    found = []
    for q in query:
        logits = [scale * sum(a * b for a, b in zip(q, k)) for k in key]
        highest = max(logits)
        powers = [math.exp(logit - highest) for logit in logits]
        total = sum(powers)
        found.append(sum(power / total * v for power, v in zip(powers, value)))
    return np.array(found)


def cross_attention(layer, x, memory):
    """x (N, C) asks memory (M, C'), head by head."""
    query, both = linear(x, layer.query), linear(memory, layer.key_value)
    key, value = both[:, : layer.width], both[:, layer.width :]
    size = layer.width // layer.heads
    parts = [slice(head * size, (head + 1) * size) for head in range(layer.heads)]
    found = [attend(query[:, part], key[:, part], value[:, part], size**-0.5) for part in parts]
    return linear(np.concatenate(found, axis=1), layer.project)


def depthwise(maps, conv):
    """maps (C, H, W) through a depthwise 3 x 3 convolution with zero padding."""
    weight, bias = array(conv.weight)[:, 0], array(conv.bias)
    channels, height, width = maps.shape
    made = np.zeros_like(maps)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                made[c, y, x] = bias[c]
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if 0 <= y + dy < height and 0 <= x + dx < width:
                            made[c, y, x] += weight[c, dy + 1, dx + 1] * maps[c, y + dy, x + dx]
    return made


def tokens(maps):
    """(C, H, W) to (H * W, C), row by row."""
    channels, height, width = maps.shape
    return np.array([[maps[c, y, x] for c in range(channels)] for y in range(height) for x in range(width)])


def maps_of(rows, size):
    """The inverse."""
    return np.array(rows).T.reshape(-1, *size)


def ffn(layer, x, size):
    """Linear, depthwise, GELU, linear."""
    return linear(gelu(tokens(depthwise(maps_of(linear(x, layer.expand), size), layer.mix))), layer.shrink)


def pool(maps, ratio):
    """Means of the cells that a window holds."""
    channels, height, width = maps.shape
    rows, columns = math.ceil(height / ratio), math.ceil(width / ratio)
    made = np.zeros((channels, rows, columns))
    for y in range(rows):
        for x in range(columns):
            window = maps[:, y * ratio : (y + 1) * ratio, x * ratio : (x + 1) * ratio]
            made[:, y, x] = window.reshape(channels, -1).sum(1) / (window.shape[1] * window.shape[2])
    return made


def pointwise(maps, conv):
    """A 1 x 1 convolution."""
    weight = array(conv.weight)[:, :, 0, 0]
    made = np.einsum("oc,chw->ohw", weight, maps)
    return made if conv.bias is None else made + array(conv.bias)[:, None, None]


def mix(mixer, maps):
    """Keys and values of several maps (C, H, W), fine to coarse: coarse channels first."""
    made = []
    for each, ratio, conv in zip(maps, mixer.ratios, mixer.convs):
        small = pool(each, ratio)
        made.append(pointwise(small, conv) if ratio > 1 else small)
    return np.concatenate(made[::-1])


def block(layer, x, memory):
    """A map (C, H, W) asks a memory (C', h, w), as the official code or the paper has it."""
    size = x.shape[1:]
    y = layer_norm(tokens(memory), layer.norm_memory)
    normal = layer_norm(tokens(x), layer.norm_query)
    if layer.variant == "official":
        a = layer_norm(normal + cross_attention(layer.attention, normal, gelu(y)), layer.norm_sum)
    else:
        a = layer_norm(cross_attention(layer.attention, tokens(x), gelu(y)), layer.norm_sum) + normal
    return maps_of(a + ffn(layer.ffn, a, size), size)


def decode(decoder, maps):
    """Refined maps of U-MixFormer, fine to coarse."""
    refined = {}
    for level in range(len(maps), 0, -1):
        known = [refined[j] if decoder.propagation and j in refined else maps[j - 1] for j in decoder.taken[level - 1]]
        refined[level] = block(decoder.blocks[level - 1], maps[level - 1], mix(decoder.mixers[level - 1], known))
    return [refined[level] for level in range(1, len(maps) + 1)]


def convolutional_self_attention(layer, x, size):
    """Windows of 3 x 3 at stride 2, written out: what each place of a window sends to each other place is added up."""
    height, width = size
    heads, channels = layer.heads, layer.width
    maps = maps_of(x, size)
    logits = linear(tokens(pool(maps, 2)), layer.weigh)
    matrices = array(layer.values.weight)[:, :, 0, 0].reshape(9, channels, channels)
    made, depth = np.zeros((channels, height, width)), channels // heads
    for number, row in enumerate(logits):
        top, left = 2 * (number // math.ceil(width / 2)) - 1, 2 * (number % math.ceil(width / 2)) - 1
        places = [(top + k // 3, left + k % 3) for k in range(9)]
        inside = [0 <= y < height and 0 <= z < width for y, z in places]
        read = [maps[:, y, z] if ok else np.zeros(channels) for (y, z), ok in zip(places, inside)]
        values = [matrix @ each for matrix, each in zip(matrices, read)]
        weights = row.reshape(heads, 9, 9) / math.sqrt(depth)
        for (y, z), ok, to in zip(places, inside, range(9)):
            for head in range(heads if ok else 0):
                powers = np.exp(weights[head, to] - weights[head, to].max())
                part = slice(head * depth, (head + 1) * depth)
                made[part, y, z] += sum(p / powers.sum() * v[part] for p, v in zip(powers, values))
    return linear(tokens(made), layer.project)


def window_attention(layer, x):
    """Without a shift: ragged heads one by one, window by window; x (H, W, C)."""
    height, width, channels = x.shape
    side = layer.window
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    padded = np.zeros((rows * side, columns * side, channels))
    padded[:height, :width] = x
    made = np.zeros_like(padded)
    bias = array(layer.position)
    for row in range(rows):
        for column in range(columns):
            area = (slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side))
            here = padded[area].reshape(-1, channels)
            query, key, value = (linear(here, part) for part in (layer.query, layer.key, layer.value))
            parts, q, v = [], 0, 0
            for head, (dq, dv) in enumerate(zip(layer.query_sizes, layer.value_sizes)):
                logits = layer.scale * query[:, q : q + dq] @ key[:, q : q + dq].T
                for a in range(side**2):
                    for b in range(side**2):
                        down, right = a // side - b // side, a % side - b % side
                        logits[a, b] += bias[(down + side - 1) * (2 * side - 1) + right + side - 1, head]
                powers = np.exp(logits - logits.max(1, keepdims=True))
                parts.append(powers / powers.sum(1, keepdims=True) @ value[:, v : v + dv])
                q, v = q + dq, v + dv
            made[area] = linear(np.concatenate(parts, axis=1), layer.project).reshape(side, side, channels)
    return made[:height, :width]
