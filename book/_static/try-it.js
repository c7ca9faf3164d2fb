// The page "Try it": what the reader sees and touches. The network works in a worker, see cut-network.js.

// In the worker: answers {settings, image} with what the cut network does; cuts only when the settings are new.
function cutWorker(library, scope) {
  "use strict";
  const ROUNDS = 8;
  let whole, wholeRun, scores, normalise, test, renewal, made;

  const split = (bytes, size) => Array.from({ length: bytes.length / size }, (_, i) => normalise(bytes.subarray(i * size, (i + 1) * size)));

  function load(data) {
    whole = library.build(library.readWeights(data.weights), data.network);
    wholeRun = library.compiled(whole);
    scores = { ...data.scores, reverse: data.scores.l1.map((block) => block.map((score) => -score)) };
    const pixels = data.network.size ** 2;
    normalise = (bytes) => Float64Array.from(bytes, (byte, i) => {
      const channel = Math.floor(i / pixels);
      return (byte / 255 - data.mean[channel]) / data.std[channel];
    });
    test = { images: split(data.test.images, 3 * pixels), targets: data.test.targets };
    renewal = split(data.renewal.images, 3 * pixels);
    test.images.slice(0, 40).forEach(wholeRun); // the first calls are slow everywhere
  }

  const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  };

  // Both networks answer all characters, taking turns, so that a busy moment hits both.
  function compare(run) {
    const [found, other] = [{ times: [], right: 0 }, { times: [], right: 0 }];
    const count = test.images.length / ROUNDS;
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [one, network] of round % 2 ? [[other, run], [found, wholeRun]] : [[found, wholeRun], [other, run]]) {
        const begin = performance.now();
        for (let i = round * count; i < (round + 1) * count; i += 1) one.right += library.strongest(network(test.images[i])) === test.targets[i];
        one.times.push((performance.now() - begin) / count);
      }
    }
    return { ms: [median(found.times), median(other.times)], right: [found.right, other.right] };
  }

  function make(settings) {
    const { rule, share, seed, renew } = settings;
    const keep = library.plan(whole, rule === "random" ? library.lots(whole, seed) : scores[rule], share);
    let small = library.cut(whole, keep);
    if (renew) small = library.renewed(small, renewal);
    const run = library.compiled(small);
    const counts = (count) => [count(whole), count(small)];
    made = { settings, keep, run, facts: { ...compare(run), macs: counts(library.macs), parameters: counts(library.parameters) } };
  }

  scope.onmessage = ({ data }) => {
    if (data.weights) {
      load(data);
      return;
    }
    if (!made || JSON.stringify(made.settings) !== JSON.stringify(data.settings)) make(data.settings);
    const image = normalise(data.image);
    const logits = [wholeRun, made.run].map((run) => [...run(image)]);
    scope.postMessage({ settings: made.settings, keep: made.keep, facts: made.facts, image: data.image, logits });
  };
}

(() => {
  "use strict";
  const root = document.getElementById("cv-try");
  const part = (name) => document.getElementById(`cv-try-${name}`);
  const SVG = "http://www.w3.org/2000/svg";
  const GROUND = "#c9c4b5", INK = "#33456b", FINE = 8; // strokes are drawn finer than the network sees them
  const MARKS = { l1: "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", taylor: "M-3.6-3.6h7.2v7.2h-7.2z", random: "M0-4.6L4.4 3.4H-4.4z", reverse: "M-4-4L4 4M4-4L-4 4" };
  const NAMES = { l1: "large weights", taylor: "large effect on the loss", random: "drawn by lot", reverse: "small weights" };

  const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const known = JSON.parse(document.getElementById("cv-try-it-data").textContent);
  const { size } = known.network;
  const test = { images: bytesOf(known.test.images), targets: known.test.targets };
  const pixels = size * size;

  // What the networks are shown: a test character, or (place -1) what was drawn.
  let place = 0;
  let image = test.images.slice(0, 3 * pixels);
  let seed = 1;
  const tried = new Map();

  function draw(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // ---- the character
  const canvas = part("canvas");
  const seen = canvas.getContext("2d");
  const sheet = document.createElement("canvas");
  sheet.width = sheet.height = size * FINE;
  const pen = sheet.getContext("2d", { willReadFrequently: true });

  function show() {
    const shown = seen.createImageData(size, size);
    for (let p = 0; p < pixels; p += 1) {
      for (let c = 0; c < 3; c += 1) shown.data[4 * p + c] = image[c * pixels + p];
      shown.data[4 * p + 3] = 255;
    }
    seen.putImageData(shown, 0, 0);
    part("frame").hidden = place >= 0;
  }

  function take(number) {
    const count = test.targets.length;
    place = (number + count) % count;
    image = test.images.slice(3 * pixels * place, 3 * pixels * (place + 1));
    show();
    ask();
  }

  // Each pixel that the network sees is the mean of FINE x FINE of the sheet.
  function look() {
    const { data } = pen.getImageData(0, 0, size * FINE, size * FINE);
    const sums = new Float64Array(3 * pixels);
    for (let y = 0; y < size * FINE; y += 1) {
      for (let x = 0; x < size * FINE; x += 1) {
        const to = Math.floor(y / FINE) * size + Math.floor(x / FINE);
        const from = 4 * (y * size * FINE + x);
        for (let c = 0; c < 3; c += 1) sums[c * pixels + to] += data[from + c];
      }
    }
    image = Uint8Array.from(sums, (sum) => Math.round(sum / FINE ** 2));
    show();
    ask();
  }

  function empty() {
    place = -1;
    pen.fillStyle = GROUND;
    pen.fillRect(0, 0, sheet.width, sheet.height);
    look();
  }

  function stroke(event, begins) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [((event.clientX - box.left) / box.width) * sheet.width, ((event.clientY - box.top) / box.height) * sheet.height];
    if (begins) {
      pen.beginPath();
      pen.moveTo(x, y);
    }
    pen.lineTo(x, y);
    Object.assign(pen, { strokeStyle: INK, lineWidth: 3 * FINE, lineCap: "round", lineJoin: "round" });
    pen.stroke();
    look();
  }

  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    if (place >= 0) empty();
    stroke(event, true);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (canvas.hasPointerCapture(event.pointerId)) stroke(event, false);
  });
  part("previous").addEventListener("click", () => take(place < 0 ? 0 : place - 1));
  part("next").addEventListener("click", () => take(place < 0 ? 0 : place + 1));
  part("empty").addEventListener("click", empty);

  // ---- the cut
  const rule = () => root.querySelector("input[name=cv-try-rule]:checked").value;
  const settings = () => ({ rule: rule(), share: Number(part("budget").value) / 100, seed: rule() === "random" ? seed : 0, renew: part("renew").checked });

  // One question at a time; what changes meanwhile is asked afterwards.
  let busy = false, waiting = false;
  function ask() {
    part("share").textContent = `${part("budget").value}\u00a0% of MACs`;
    part("lots").hidden = rule() !== "random";
    waiting = busy;
    if (busy) return;
    busy = true;
    worker.postMessage({ settings: settings(), image });
  }

  part("budget").addEventListener("input", ask);
  part("renew").addEventListener("change", ask);
  root.querySelectorAll("input[type=radio]").forEach((input) => input.addEventListener("change", ask));
  part("lots").addEventListener("click", () => {
    seed += 1;
    ask();
  });

  // ---- what came out
  const percent = (value) => `${Math.round(100 * value)}\u00a0%`;

  function row(name, write) {
    const [whole, cut] = root.answer.facts[name];
    const cells = root.querySelectorAll(`[data-row=${name}] td`);
    [write(whole), write(cut), percent(cut / whole)].forEach((text, i) => { cells[i].textContent = text; });
  }

  function softmax(logits) {
    const most = Math.max(...logits);
    const powers = logits.map((value) => Math.exp(value - most));
    const sum = powers.reduce((a, b) => a + b);
    return powers.map((value) => value / sum);
  }

  function bars(sure) {
    const pieces = known.classes.flatMap((letter, i) => {
      const x = 6 + 23 * i;
      return [
        draw("rect", { x, y: 64 - 60 * sure[0][i], width: 9, height: 60 * sure[0][i], class: "whole" }),
        draw("rect", { x: x + 9, y: 64 - 60 * sure[1][i], width: 9, height: 60 * sure[1][i], class: "cut" }),
        draw("text", { x: x + 9, y: 79, "text-anchor": "middle" }, letter),
      ];
    });
    part("bars").replaceChildren(draw("path", { d: "M2 64.5H238", class: "axis" }), ...pieces);
  }

  function says(sure) {
    const best = sure.map((values) => values.indexOf(Math.max(...values)));
    const [whole, cut] = best.map((i, n) => `${known.classes[i]}, ${percent(sure[n][i])} sure`);
    const what = place < 0
      ? `Draw one of ${known.classes.join(" ")} into the frame.`
      : `Test character ${place + 1}: ${known.classes[test.targets[place]]}.`;
    canvas.setAttribute("aria-label", place < 0 ? "What you have drawn, as both networks see it" : what);
    part("says").textContent = `${what} Whole network (pale): ${whole}. Cut network (blue): ${cut}.`;
  }

  const across = (macs) => 44 + 292 * macs, up = (accuracy) => 182 - 170 * accuracy;

  function curve() {
    const pieces = [0, 0.5, 1].flatMap((v) => [
      draw("path", { d: `M44 ${up(v)}H336`, class: "grid" }),
      draw("text", { x: 39, y: up(v) + 4, "text-anchor": "end" }, percent(v)),
      draw("text", { x: across(v), y: 198, "text-anchor": "middle" }, percent(v)),
    ]);
    const guess = up(1 / known.classes.length);
    pieces.push(
      draw("path", { d: "M44 12V182H336", class: "axis" }),
      draw("path", { d: `M44 ${guess}H336`, class: "guess" }),
      draw("text", { x: 336, y: guess - 4, "text-anchor": "end" }, "guessing"),
      draw("text", { x: 190, y: 215, "text-anchor": "middle" }, "MACs left"),
      draw("text", { x: 50, y: 24 }, "answers right"),
    );
    for (const { x, y, ...kind } of tried.values()) {
      pieces.push(draw("path", { d: MARKS[kind.rule], transform: `translate(${x} ${y})`, "data-rule": kind.rule, "data-renewed": kind.renew }));
    }
    const last = [...tried.values()].pop();
    pieces.push(draw("circle", { cx: last.x, cy: last.y, r: 8, class: "now" }));
    part("curve").replaceChildren(...pieces);
  }

  function remember({ settings: { rule, renew, share, seed }, facts }) {
    const key = [rule, renew, share, seed].join();
    tried.delete(key);
    const [[whole, cut], right] = [facts.macs, facts.right[1] / test.targets.length];
    tried.set(key, { rule, renew, x: across(cut / whole), y: up(right) });
  }

  function answered({ data }) {
    busy = false;
    root.answer = data;
    row("macs", (value) => value.toLocaleString("en"));
    row("ms", (value) => value.toFixed(2));
    row("parameters", (value) => value.toLocaleString("en"));
    row("right", String);
    const sure = data.logits.map(softmax);
    bars(sure);
    says(sure);
    remember(data);
    curve();
    const { rule, renew, share } = data.settings;
    part("state").textContent = `Ring: ${NAMES[rule]}, ${percent(share)}${renew ? ", statistics renewed (filled)" : ""}; channels ${data.keep.map((kept) => kept.length).join(", ")}.`;
    if (waiting) ask();
  }

  // ---- from file://, a worker can only be made of a text that the page holds
  const failed = ({ message }) => { part("state").textContent = `The network could not run here: ${message}`; };
  const text = `(${cutWorker})((${cutNetwork})(), self)`;
  let worker;
  try {
    worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
  } catch (error) {
    failed(error);
    return;
  }
  worker.onmessage = answered;
  worker.onerror = failed;
  worker.postMessage({ ...known, weights: bytesOf(known.network.weights), test, renewal: { images: bytesOf(known.renewal.images) } });

  root.querySelectorAll("[data-is=characters]").forEach((element) => { element.textContent = test.targets.length; });
  root.querySelectorAll("fieldset label").forEach((label) => {
    const kind = label.querySelector("input").value;
    const mark = draw("svg", { viewBox: "-6 -6 12 12", class: "cv-try-mark", "aria-hidden": "true" });
    mark.append(draw("path", { d: MARKS[kind], "data-rule": kind, "data-renewed": "false" }));
    label.append(mark);
  });
  show();
  ask();
})();
