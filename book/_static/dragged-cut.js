// The cut you can drag: shows what compactvision.dragged_cut has computed. No network runs here.
(() => {
  "use strict";
  const known = window.cvDraggedCut;
  const root = document.getElementById("cv-drag");
  const part = (name) => document.getElementById(`cv-drag-${name}`);
  const SVG = "http://www.w3.org/2000/svg";
  const { budgets, classes, targets } = known;
  const total = targets.length;
  const last = budgets.length - 1;
  const LOTS = Object.keys(known.orders).filter((name) => name.startsWith("lot"));
  const SHOWN = 24; // misread characters
  const FIRST = 80; // percent, the budget that the picture opens with
  const CHAPTERS = {
    energy: ["energy_aware_pruning", "Energy-aware pruning"],
    relevance: ["lrp_pruning", "Pruning by explaining"],
    scale: ["proximal_network_slimming", "Proximal network slimming"],
  };
  const TELLS = {
    l1: "The sum of a filter’s absolute weights: no image is looked at.",
    taylor: "Activation times gradient: a first guess at how the loss would change without the channel.",
    energy: "How much a channel says: the nuclear norm of its feature maps.",
    relevance: "Who is listened to: what of the class score flows back through the channel.",
    scale: "What network slimming goes by; this network was not trained for it.",
    lot: "The control that every rule has to beat.",
    reverse: "The order of large weights, backwards: a rule that means something must do better.",
  };

  function draw(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  // ---- the data: nine digits in five letters, see `packed` in the package
  const ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  const number = (letters) => [...letters].reduce((sum, letter) => 64 * sum + ALPHABET.indexOf(letter), 0);
  const unpacked = (text) => text.match(/.{5}/g).map((letters) => String(number(letters)).padStart(9, "0")).join("").slice(0, total);
  const read = {};
  for (const [name, { answers }] of Object.entries(known.orders)) {
    read[name] = Object.fromEntries(Object.entries(answers).map(([state, cells]) => [state, cells.map(unpacked)]));
  }
  const wrong = (answers) => [...targets].flatMap((truth, i) => (truth === answers[i] ? [] : [i]));
  const share = (answers) => 1 - wrong(answers).length / total;

  // ---- the network: streams are lines, inner channels are squares
  const PITCH = 2, STAGE = 106, GAP = 11, MIDDLE = 80, SQUARE = 4, SLOT = 36, BELOW = 18;
  const channels = []; // element and the place of the budget at which it goes, filled in by `fade`
  const counts = [];

  function drawStream(stage, size) {
    const x = stage * (STAGE + GAP);
    const end = stage < 2 ? x + STAGE + GAP : x + STAGE;
    part("net").append(...Array.from({ length: size }, (_, i) => {
      const line = draw("path", { class: "channel stream", d: `M${x} ${MIDDLE + PITCH * (i - size / 2 + 0.5)}H${end}` });
      channels.push({ element: line, kind: "stream" });
      return line;
    }));
    const label = draw("text", { x: x + STAGE / 2, y: MIDDLE - PITCH * size / 2 - 5, "text-anchor": "middle" });
    part("net").append(label);
    return label;
  }

  function drawBlock(stage, block, size) {
    const half = (n) => PITCH * n / 2;
    const x = stage * (STAGE + GAP) + block * SLOT;
    const y = MIDDLE + half(size) + BELOW;
    const from = stage && !block ? `M${x - 5} ${MIDDLE + half(size / 2)}V${y - 9}H${x + 5}V${y - 2}` : `M${x + 5} ${MIDDLE + half(size)}V${y - 2}`;
    const squares = Array.from({ length: size }, (_, i) => {
      const square = draw("rect", { class: "channel inner", x: x + SQUARE * (i % 8), y: y + SQUARE * Math.floor(i / 8), width: SQUARE - 0.8, height: SQUARE - 0.8 });
      channels.push({ element: square, kind: "inner" });
      return square;
    });
    const label = draw("text", { x: x + 16, y: y + SQUARE * size / 8 + 11, "text-anchor": "middle" });
    const top = MIDDLE + half(size) + 4;
    part("net").append(
      draw("path", { class: "wire", d: from }),
      draw("path", { class: "wire", d: `M${x + 26} ${y - 2}V${top}` }),
      draw("circle", { class: "sum", cx: x + 26, cy: top, r: 3.4 }),
      draw("path", { class: "wire", d: `M${x + 23.5} ${top}h5m-2.5 -2.5v5` }),
      ...squares,
      label,
    );
    return label;
  }

  let streams = 0;
  for (const [name, kind, size] of known.groups) {
    const [, stage, block] = name.match(/^layer(\d)\.(\d)/) ?? [];
    const begin = channels.length;
    const label = kind === "stream" ? drawStream(streams++, size) : drawBlock(stage - 1, Number(block), size);
    counts.push({ label, kind, size, begin });
  }

  function fade(name, place, masked) {
    const { gone } = known.orders[name];
    const goes = (i) => (gone[i] === "." ? Infinity : gone.charCodeAt(i) - 97);
    channels.forEach(({ element, kind }, i) => {
      const state = goes(i) <= place ? (masked ? "masked" : "gone") : goes(i) === place + 1 ? "next" : "";
      element.setAttribute("class", `channel ${kind} ${state}`);
    });
    counts.forEach(({ label, kind, size, begin }) => {
      const kept = Array.from({ length: size }, (_, i) => goes(begin + i) > place).filter(Boolean).length;
      label.textContent = kind === "stream" ? `stream: ${kept} of ${size}` : kept;
    });
  }

  // ---- the curve
  const [LEFT, RIGHT, TOP, BOTTOM] = [34, 242, 22, 152];
  const across = (percent) => LEFT + (RIGHT - LEFT) * (percent - budgets[last]) / (100 - budgets[last]);
  const up = (value) => BOTTOM - (BOTTOM - TOP) * value;
  const path = (values) => `M${values.map((value, i) => `${across(budgets[i]).toFixed(1)} ${up(value).toFixed(1)}`).join("L")}`;
  const curve = part("curve");
  for (const value of [0, 50, 100]) {
    curve.append(draw("path", { class: "grid", d: `M${LEFT} ${up(value / 100)}H${RIGHT}` }));
    curve.append(draw("text", { x: LEFT - 5, y: up(value / 100) + 4, "text-anchor": "end" }, value));
  }
  for (const percent of [20, 40, 60, 80, 100]) curve.append(draw("text", { x: across(percent), y: BOTTOM + 15, "text-anchor": percent === 100 ? "end" : "middle" }, percent));
  curve.append(draw("text", { x: (LEFT + RIGHT) / 2, y: BOTTOM + 31, "text-anchor": "middle" }, "% of the MACs that may stay"));
  curve.append(draw("text", { x: 2, y: 9 }, "% right"));
  curve.append(draw("path", { class: "guess", d: `M${LEFT} ${up(1 / classes.length)}H${RIGHT}` }));
  curve.append(draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${BOTTOM}H${RIGHT}` }));
  const lines = Object.fromEntries(["lots", "plain", "chosen"].map((name) => [name, draw("path", { class: name })]));
  const dots = budgets.map((percent) => draw("circle", { class: "dot", cx: across(percent), r: 2.6 }));
  const here = draw("circle", { class: "here", r: 6 });
  curve.append(...Object.values(lines), ...dots, here);

  function plot(name, state, place) {
    const values = read[name][state].map(share);
    const drawn = LOTS.filter((lot) => read[lot][state]);
    const lots = budgets.map((_, i) => drawn.map((lot) => share(read[lot][state][i])));
    const [most, least] = [Math.max, Math.min].map((pick) => lots.map((found) => pick(...found)));
    const back = [...budgets.keys()].reverse().map((i) => `L${across(budgets[i]).toFixed(1)} ${up(least[i]).toFixed(1)}`).join("");
    lines.lots.setAttribute("d", drawn.length ? `${path(most)}${back}Z` : "");
    lines.plain.setAttribute("d", state === "cut" ? "" : path(read[name].cut.map(share)));
    lines.chosen.setAttribute("d", path(values));
    part("plain").hidden = state === "cut";
    part("lots-key").hidden = !drawn.length;
    part("lots-key").lastElementChild.textContent = ["", "one lot", "two lots", "three lots"][drawn.length];
    dots.forEach((dot, i) => dot.setAttribute("cy", up(values[i])));
    here.style.transform = `translate(${across(budgets[place])}px, ${up(values[place])}px)`;
    curve.setAttribute("aria-label", `Share of characters that are read right, by budget: ${budgets.map((percent, i) => `${Math.round(100 * values[i])} % at ${percent} %`).join(", ")}`);
  }

  // ---- the characters
  const sheet = new Image();
  const shown = new Map();

  function figure(i) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 32;
    canvas.getContext("2d").drawImage(sheet, 32 * (i % known.across), 32 * Math.floor(i / known.across), 32, 32, 0, 0, 32, 32);
    const caption = document.createElement("span");
    caption.append(`${classes[targets[i]]} → `, document.createElement("b"));
    const made = document.createElement("div");
    made.setAttribute("role", "img");
    made.append(canvas, caption);
    return made;
  }

  // Those that are misread already stay where they are in the page; new ones come in.
  function list(places, answers) {
    const wanted = places.slice(0, SHOWN);
    for (const [i, element] of shown) {
      if (wanted.includes(i)) continue;
      element.remove();
      shown.delete(i);
    }
    wanted.forEach((i, rank) => {
      if (!shown.has(i)) shown.set(i, figure(i));
      const element = shown.get(i);
      element.querySelector("b").textContent = classes[answers[i]];
      element.setAttribute("aria-label", `${classes[targets[i]]}, read as ${classes[answers[i]]}`);
      if (part("misread").children[rank] !== element) part("misread").insertBefore(element, part("misread").children[rank] ?? null);
    });
  }

  // The answer that is given most often; a broken network has a favourite.
  function favourite(answers) {
    const votes = classes.map((_, k) => [...answers].filter((answer) => Number(answer) === k).length);
    const most = Math.max(...votes);
    return most >= 3 * total / classes.length ? ` “${classes[votes.indexOf(most)]}” is its answer to ${most} of them.` : "";
  }

  // ---- what the reader touches
  let lot = 0;
  const checked = (name) => root.querySelector(`input[name=cv-drag-${name}]:checked`);
  const percent = (value) => `${Math.round(100 * value)}\u00a0%`;

  function show() {
    const masked = part("ghost").checked;
    const rule = checked("rule").value;
    const name = rule === "lot" ? LOTS[lot] : rule;
    const least = root.querySelector("input[value=reconstructed]"); // it needs a network that was cut
    least.disabled = masked || !read[name].reconstructed;
    if (least.disabled && least.checked) root.querySelector("input[name=cv-drag-mend]").checked = true;
    const mend = checked("mend").value;
    const state = masked ? `ghost ${mend}`.trim() : mend || "cut";
    const place = last - Number(part("budget").value);
    const answers = read[name][state][place];
    const misread = wrong(answers);
    const left = percent(known.orders[name].macs[place]);

    part("share").textContent = `${budgets[place]}\u00a0% of MACs`;
    part("budget").setAttribute("aria-valuetext", `${budgets[place]} percent of the MACs`);
    part("lots").hidden = rule !== "lot";
    part("rule").replaceChildren(rule === "lot" ? `Lot ${lot + 1} of ${LOTS.length}. ${TELLS.lot}` : TELLS[rule]);
    if (CHAPTERS[rule]) {
      const [slug, title] = CHAPTERS[rule];
      part("rule").append(" Chapter: ", Object.assign(document.createElement("a"), { href: `../notebooks/${slug}.html`, textContent: title }));
    }
    fade(name, place, masked);
    part("net").setAttribute("aria-label", `The residual network: ${counts.map(({ label, kind, size }) => `${kind === "stream" ? "a stream with" : "a block with"} ${label.textContent.match(/\d+/)} of ${size} channels`).join(", ")}`);
    plot(name, state, place);
    const cost = masked && place ? `for all of the MACs: a mask saves nothing (the cut would leave ${left})` : `for ${left} of the MACs`;
    part("says").replaceChildren(Object.assign(document.createElement("strong"), { textContent: `${total - misread.length} of ${total}` }), ` characters read right, ${cost}.${favourite(answers)}`);
    const many = misread.length > SHOWN ? `${misread.length} are misread, the first ${SHOWN} of them:` : `${misread.length} misread:`;
    part("list").textContent = misread.length ? many : "None is misread.";
    list(misread, answers);
  }

  // Chapters link to #cut-by-energy and the like.
  function follow() {
    const asked = root.querySelector(`input[name=cv-drag-rule][value="${CSS.escape(location.hash.replace(/^#cut-by-/, ""))}"]`);
    if (asked) asked.checked = true;
    show();
  }

  root.hidden = false;
  part("budget").max = last;
  part("budget").value = last - budgets.indexOf(FIRST);
  root.addEventListener("input", show);
  part("lots").addEventListener("click", () => {
    lot = (lot + 1) % LOTS.length;
    show();
  });
  window.addEventListener("hashchange", follow);
  sheet.onload = follow;
  sheet.src = `data:image/webp;base64,${known.pictures}`;
})();
