// The cut you can drag: shows what compactvision.dragged_cut has computed.
(() => {
  "use strict";
  const known = window.cvDraggedCut;
  const part = (name) => document.getElementById(`cv-drag-${name}`);
  const NAMES = { l1: "L1", taylor: "Taylor", energy: "energy", relevance: "relevance", scale: "BatchNorm scale", reverse: "L1 reversed", random0: "lot 1", random1: "lot 2", random2: "lot 3" };
  const asked = new URLSearchParams(location.hash.slice(1)).get("rule");
  const first = known.cells[asked] ? asked : "l1";
  const sheet = new Image();
  const make = (name, values = {}) => Object.assign(document.createElement(name), values);

  for (const rule of Object.keys(known.cells)) {
    const label = make("label");
    label.append(make("input", { type: "radio", name: "cv-drag-rule", value: rule, checked: rule === first }), NAMES[rule]);
    part("rules").append(label);
  }

  function figure(place, read) {
    const canvas = make("canvas", { width: 32, height: 32 });
    canvas.getContext("2d").drawImage(sheet, 32 * (place % 20), 32 * Math.floor(place / 20), 32, 32, 0, 0, 32, 32);
    const [truth, answer] = [known.targets[place], read].map((i) => known.classes[i]);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${truth} read as ${answer}`);
    const shown = make("figure");
    shown.append(canvas, make("figcaption", { textContent: `${truth} → ${answer}` }));
    return shown;
  }

  function show() {
    const rule = part("rules").querySelector("input:checked").value;
    const step = Number(part("budget").value);
    const cell = known.cells[rule][step];
    const state = [part("ghost").checked && "ghost", part("renew").checked && "renewed"].filter(Boolean).join(" ") || "cut";
    const misread = [...cell[state]].flatMap((answer, i) => (answer === known.targets[i] ? [] : [i]));
    part("share").textContent = `${known.budgets[step]}\u00a0%`;
    part("budget").setAttribute("aria-valuetext", `${known.budgets[step]} percent of the MACs`);
    part("net").replaceChildren(...known.groups.map(([name, kind, writers], g) => {
      const row = make("div", { className: `row ${kind}` });
      row.append(make("span", { textContent: kind === "stream" ? `stream, ${writers} tied layers` : name }));
      row.append(...[...cell.kept[g]].map((kept) => make("i", { className: kept === "1" ? "" : "gone" })));
      return row;
    }));
    const total = known.targets.length;
    part("says").textContent = `${total - misread.length} of ${total} right, at ${Math.round(100 * cell.macs)}\u00a0% of the MACs` +
      `${part("ghost").checked ? " once the zeros are cut out; as a mask it saves nothing" : ""}. ${misread.length} misread${misread.length > 24 ? ", the first 24" : ""}:`;
    part("misread").replaceChildren(...misread.slice(0, 24).map((i) => figure(i, cell[state][i])));
  }

  document.getElementById("cv-drag").addEventListener("input", show);
  sheet.onload = show;
  sheet.src = `data:image/webp;base64,${known.pictures}`;
})();
