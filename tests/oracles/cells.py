"""Parameters and MACs of networks of cells, counted by hand: plain Python, no network is built."""


def weights(name, channels, stride):
    """Weights of an operation's convolutions, one list entry for each: (weights, whether its output is halved)."""
    kernel = int(name[-1]) if name[-1].isdigit() else 0
    square, once = channels**2, kernel**2 * channels
    if name.startswith("sep_conv"):
        return [once + square, once + square]
    if name.startswith("dil_conv"):
        return [once + square]
    if name.startswith("conv"):
        return [kernel**2 * square]
    return [square] if name == "skip_connect" and stride == 2 else []


def network(normal, reduction, outputs, channels=36, cells=20, classes=10, size=32, stem=3, images=3):
    """Return parameters and MACs; BatchNorms have weights and take no MACs."""
    before = last = stem * channels
    parameters = 9 * images * last + 2 * last
    macs = 9 * images * last * size**2
    for index in range(cells):
        halving = cells > 1 and index in (cells // 3, 2 * cells // 3)
        channels *= 1 + halving
        pixels = size**2  # of the last cell's output; the input before it is brought to the same
        for arriving in (before, last):
            parameters += arriving * channels + 2 * channels
            macs += arriving * channels * pixels
        size //= 1 + halving
        for name, source, _ in reduction if halving else normal:
            for count in weights(name, channels, 2 if halving and source < 2 else 1):
                parameters += count + 2 * channels
                macs += count * size**2
        before, last = last, outputs * channels
    return parameters + (last + 1) * classes, macs + last * classes
