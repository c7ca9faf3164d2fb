// The network of the page "Try it": read, cut, renew, fold and run a chain of convolutions, as compactvision does.
// One function that needs nothing from outside, so that its text can be handed to a worker; the page may call it, too.
// Numbers are float64 throughout. A map is (channels, height, width), one row after the other.
function cutNetwork() {
  "use strict";
  const EPSILON = 1e-5; // of BatchNorm
  const TAPS = 9; // of a 3 x 3 kernel

  function fromHalf(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    return exponent === 31 ? NaN : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  // From the bytes of a safetensors file with half-precision tensors to {name: Float64Array}.
  function readWeights(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const length = Number(view.getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const tensors = {};
    for (const [name, { dtype, data_offsets: [begin, end] }] of Object.entries(header)) {
      if (dtype !== "F16") continue; // counters of batches
      tensors[name] = Float64Array.from({ length: (end - begin) / 2 }, (_, i) =>
        fromHalf(view.getUint16(8 + length + begin + 2 * i, true)));
    }
    return tensors;
  }

  // From tensors and a list of {conv, norm, pool} to a network: blocks of convolution, BatchNorm, ReLU, perhaps pooling.
  function build(tensors, description) {
    let inputs = 3;
    let { size } = description;
    const blocks = description.blocks.map(({ conv, norm, pool }) => {
      const [scale, shift, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map((part) => tensors[`${norm}.${part}`]);
      const block = { weight: tensors[`${conv}.weight`], scale, shift, mean, variance, inputs, outputs: scale.length, size, pool };
      inputs = block.outputs;
      size = pool ? size / 2 : size;
      return block;
    });
    const bias = tensors[`${description.head}.bias`];
    return { blocks, head: { weight: tensors[`${description.head}.weight`], bias, inputs, outputs: bias.length } };
  }

  const widths = (network) => network.blocks.map((block) => block.outputs);

  // Multiply-accumulates for one image, were the blocks as wide as `outputs` says.
  function macs(network, outputs = widths(network)) {
    const of = ({ size }, b) => outputs[b] * (b ? outputs[b - 1] : network.blocks[0].inputs) * TAPS * size * size;
    return network.blocks.map(of).reduce((a, b) => a + b) + outputs[outputs.length - 1] * network.head.outputs;
  }

  function parameters({ blocks, head }) {
    const convolutions = blocks.map(({ weight, outputs }) => weight.length + 2 * outputs).reduce((a, b) => a + b);
    return convolutions + head.weight.length + head.bias.length;
  }

  // Uniform scores in [0, 1) for each channel, the same for the same seed.
  function lots(network, seed) {
    let state = (Math.imul(seed + 1, 0x9e3779b1) >>> 0) || 1;
    const draw = () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return (state >>> 0) / 2 ** 32;
    };
    for (let i = 0; i < 16; i += 1) draw();
    return widths(network).map((count) => Array.from({ length: count }, draw));
  }

  // Which channels stay, by block: all blocks are thinned alike, lowest score first, until the budget is met. The best
  // channel of each block stays; of equal ones the last.
  function plan(network, scores, share) {
    const order = scores.flatMap((values, b) => {
      const ascending = [...values.keys()].sort((i, j) => values[i] - values[j] || i - j);
      return ascending.slice(0, -1).map((channel, i) => ({ b, channel, thinned: (i + 1) / values.length }));
    });
    order.sort((one, other) => one.thinned - other.thinned || one.b - other.b);
    const left = widths(network);
    const limit = share * macs(network);
    const gone = scores.map(() => new Set());
    let removed = 0;
    while (macs(network, left) > limit) {
      if (removed === order.length) throw new RangeError(`a budget of ${share} is out of reach`);
      const { b, channel } = order[removed];
      gone[b].add(channel);
      left[b] -= 1;
      removed += 1;
    }
    return scores.map((values, b) => [...values.keys()].filter((channel) => !gone[b].has(channel)));
  }

  // The network that is left: new, smaller arrays.
  function cut(network, keep) {
    const pick = (values, kept) => Float64Array.from(kept, (i) => values[i]);
    let read = [...Array(network.blocks[0].inputs).keys()];
    const blocks = network.blocks.map((block, b) => {
      const kept = keep[b];
      const places = kept.flatMap((o) => read.flatMap((i) => Array.from({ length: TAPS }, (_, t) => (o * block.inputs + i) * TAPS + t)));
      const smaller = { ...block, weight: pick(block.weight, places), inputs: read.length, outputs: kept.length };
      for (const part of ["scale", "shift", "mean", "variance"]) smaller[part] = pick(block[part], kept);
      read = kept;
      return smaller;
    });
    const { weight, bias, inputs, outputs } = network.head;
    const places = Array.from({ length: outputs }, (_, o) => read.map((i) => o * inputs + i)).flat();
    return { blocks, head: { weight: pick(weight, places), bias, inputs: read.length, outputs } };
  }

  // Weights of a convolution for `convolve`: two outputs side by side, an odd last one beside zeros.
  function packed({ weight, inputs, outputs }, factor, bias) {
    const taps = inputs * TAPS;
    const pairs = Math.ceil(outputs / 2);
    const kernel = { weight: new Float64Array(pairs * taps * 2), bias: new Float64Array(pairs * 2), taps, pairs };
    for (let o = 0; o < outputs; o += 1) {
      kernel.bias[o] = bias[o];
      for (let t = 0; t < taps; t += 1) kernel.weight[((o >> 1) * taps + t) * 2 + (o & 1)] = weight[o * taps + t] * factor[o];
    }
    return kernel;
  }

  // BatchNorm becomes part of the convolution in front of it.
  function folded(block) {
    const factor = block.scale.map((scale, o) => scale / Math.sqrt(block.variance[o] + EPSILON));
    return packed(block, factor, block.shift.map((shift, o) => shift - block.mean[o] * factor[o]));
  }

  // A map with a border of zeros.
  const bordered = (channels, size) => new Float64Array(channels * (size + 2) * (size + 2));

  // 3 x 3 convolution of a bordered map into a plain one: two outputs at four pixels in each step.
  function convolve(kernel, map, inputs, size, out, panel) {
    const { weight, bias, taps, pairs } = kernel;
    const stride = size + 2;
    const plane = stride * stride;
    const pixels = size * size;
    for (let y = 0; y < size; y += 1) {
      for (let x = 0; x < size; x += 4) {
        let k = 0;
        for (let i = 0; i < inputs; i += 1) {
          let from = i * plane + y * stride + x;
          for (let row = 0; row < 3; row += 1) {
            const a = map[from], b = map[from + 1], c = map[from + 2], d = map[from + 3], e = map[from + 4], f = map[from + 5];
            panel[k] = a; panel[k + 1] = b; panel[k + 2] = c; panel[k + 3] = d;
            panel[k + 4] = b; panel[k + 5] = c; panel[k + 6] = d; panel[k + 7] = e;
            panel[k + 8] = c; panel[k + 9] = d; panel[k + 10] = e; panel[k + 11] = f;
            k += 12;
            from += stride;
          }
        }
        for (let pair = 0; pair < pairs; pair += 1) {
          const u = bias[2 * pair], v = bias[2 * pair + 1];
          let u0 = u, u1 = u, u2 = u, u3 = u, v0 = v, v1 = v, v2 = v, v3 = v;
          let w = pair * taps * 2;
          for (let p = 0; p < k; p += 4) {
            const one = weight[w], other = weight[w + 1];
            const a = panel[p], b = panel[p + 1], c = panel[p + 2], d = panel[p + 3];
            u0 += one * a; u1 += one * b; u2 += one * c; u3 += one * d;
            v0 += other * a; v1 += other * b; v2 += other * c; v3 += other * d;
            w += 2;
          }
          let to = 2 * pair * pixels + y * size + x;
          out[to] = u0; out[to + 1] = u1; out[to + 2] = u2; out[to + 3] = u3;
          to += pixels;
          out[to] = v0; out[to + 1] = v1; out[to + 2] = v2; out[to + 3] = v3;
        }
      }
    }
  }

  // ReLU, then perhaps the largest of 2 x 2, from a plain map into a bordered one.
  function activate(map, channels, size, pool, out) {
    const step = pool ? 2 : 1;
    const stride = size / step + 2;
    for (let c = 0; c < channels; c += 1) {
      for (let y = 0; y < size; y += step) {
        let from = (c * size + y) * size;
        let to = (c * stride + y / step + 1) * stride + 1;
        for (let x = 0; x < size; x += step) {
          let best = map[from] > 0 ? map[from] : 0;
          if (pool) {
            if (map[from + 1] > best) best = map[from + 1];
            if (map[from + size] > best) best = map[from + size];
            if (map[from + size + 1] > best) best = map[from + size + 1];
          }
          out[to] = best;
          from += step;
          to += 1;
        }
      }
    }
  }

  function enter(image, channels, size) {
    const map = bordered(channels, size);
    for (let c = 0; c < channels; c += 1) {
      for (let y = 0; y < size; y += 1) {
        map.set(image.subarray((c * size + y) * size, (c * size + y + 1) * size), (c * (size + 2) + y + 1) * (size + 2) + 1);
      }
    }
    return map;
  }

  const after = (block) => (block.pool ? block.size / 2 : block.size);
  const plain = (block) => new Float64Array(2 * Math.ceil(block.outputs / 2) * block.size * block.size);

  // A function from a normalised image to its logits, with all buffers made once.
  function compiled({ blocks, head }) {
    const stages = blocks.map((block) => ({
      ...block,
      kernel: folded(block),
      panel: new Float64Array(4 * TAPS * block.inputs),
      map: plain(block),
      out: bordered(block.outputs, after(block)),
    }));
    const last = blocks[blocks.length - 1];
    const pixels = after(last) ** 2;
    const plane = (after(last) + 2) ** 2;
    return (image) => {
      let map = enter(image, blocks[0].inputs, blocks[0].size);
      for (const { kernel, inputs, outputs, size, pool, panel, map: between, out } of stages) {
        convolve(kernel, map, inputs, size, between, panel);
        activate(between, outputs, size, pool, out);
        map = out;
      }
      const logits = Float64Array.from(head.bias);
      for (let i = 0; i < head.inputs; i += 1) {
        let sum = 0; // the border is zero
        for (let p = i * plane; p < (i + 1) * plane; p += 1) sum += map[p];
        for (let o = 0; o < head.outputs; o += 1) logits[o] += (head.weight[o * head.inputs + i] * sum) / pixels;
      }
      return logits;
    };
  }

  // Mean and unbiased variance of one channel over maps.
  function moments(maps, channel, pixels) {
    const begin = channel * pixels;
    const count = maps.length * pixels;
    let mean = 0;
    for (const map of maps) for (let p = begin; p < begin + pixels; p += 1) mean += map[p];
    mean /= count;
    let squares = 0;
    for (const map of maps) for (let p = begin; p < begin + pixels; p += 1) squares += (map[p] - mean) ** 2;
    return { mean, biased: squares / count, variance: squares / (count - 1) };
  }

  // The same network with BatchNorm's statistics taken from one batch of images, block by block.
  function renewed(network, images) {
    let maps = images.map((image) => enter(image, network.blocks[0].inputs, network.blocks[0].size));
    const blocks = network.blocks.map((block) => {
      const { outputs, inputs, size, pool } = block;
      const kernel = packed(block, new Float64Array(outputs).fill(1), new Float64Array(outputs));
      const panel = new Float64Array(4 * TAPS * inputs);
      const raw = maps.map((map) => {
        const out = plain(block);
        convolve(kernel, map, inputs, size, out, panel);
        return out;
      });
      const found = Array.from({ length: outputs }, (_, o) => moments(raw, o, size * size));
      maps = raw.map((map) => {
        found.forEach(({ mean, biased }, o) => {
          const factor = block.scale[o] / Math.sqrt(biased + EPSILON);
          for (let p = o * size * size; p < (o + 1) * size * size; p += 1) map[p] = (map[p] - mean) * factor + block.shift[o];
        });
        const out = bordered(outputs, after(block));
        activate(map, outputs, size, pool, out);
        return out;
      });
      return { ...block, mean: Float64Array.from(found, ({ mean }) => mean), variance: Float64Array.from(found, ({ variance }) => variance) };
    });
    return { blocks, head: network.head };
  }

  const strongest = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

  return { readWeights, build, widths, macs, parameters, lots, plan, cut, renewed, compiled, strongest };
}
