// Run in a page by test_book_browser.py: what a reader would see go wrong.
() => {
  const article = document.querySelector("article") ?? document.body;
  const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const parsed = new Map();
  const rgba = (colour) => {
    if (!parsed.has(colour)) {
      scratch.clearRect(0, 0, 1, 1);
      scratch.fillStyle = colour;
      scratch.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = scratch.getImageData(0, 0, 1, 1).data;
      parsed.set(colour, [r, g, b, a / 255]);
    }
    return parsed.get(colour);
  };
  const over = (top, bottom) => top.slice(0, 3).map((v, i) => v * top[3] + bottom[i] * (1 - top[3])).concat(1);
  const backgrounds = new Map();
  const behind = (element) => {
    if (!element) return [255, 255, 255, 1];
    if (!backgrounds.has(element)) {
      const layer = rgba(getComputedStyle(element).backgroundColor);
      backgrounds.set(element, layer[3] === 1 ? layer : over(layer, behind(element.parentElement)));
    }
    return backgrounds.get(element);
  };
  const luminance = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };

  // Text on a picture has colours of its own, which the picture's code chooses; its ground cannot be read here.
  const onPicture = (element) => {
    const svg = element instanceof SVGElement && element.ownerSVGElement;
    if (!svg) return false;
    const { left, top, width, height } = element.getBoundingClientRect();
    const [x, y] = [left + width / 2, top + height / 2];
    return [...svg.querySelectorAll("image")].some((image) => {
      const box = image.getBoundingClientRect();
      return box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
    });
  };

  // A label stands on the plate or disc that is drawn just before it, if its middle lies within.
  const plate = (element) => {
    const before = element instanceof SVGTextElement && element.previousElementSibling;
    const shape = before instanceof SVGGElement && before.children.length === 1 ? before.firstElementChild : before;
    if (![SVGRectElement, SVGCircleElement, SVGPathElement].some((kind) => shape instanceof kind)) return null;
    const [box, text] = [shape.getBoundingClientRect(), element.getBoundingClientRect()];
    const [x, y] = [text.left + text.width / 2, text.top + text.height / 2];
    const within = box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
    const { fill, fillOpacity, opacity } = getComputedStyle(shape);
    const solid = fill !== "none" && rgba(fill)[3] * parseFloat(fillOpacity) * parseFloat(opacity) === 1;
    return within && solid ? rgba(fill) : null;
  };

  const faint = new Map();
  const rawMathematics = [];
  let texts = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    const text = node.textContent.trim();
    if (!text || !parent || parent.closest("script, style, noscript, title, desc, mjx-assistive-mml")) continue;
    if (article.contains(parent) && !parent.closest("pre, code") && /\\\(|\\\[|\$\$|\\begin\{/.test(text)) {
      rawMathematics.push(text.slice(0, 60));
    }
    if (!parent.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || onPicture(parent)) continue;
    const style = getComputedStyle(parent);
    const background = plate(parent) ?? behind(parent);
    const ink = rgba(parent instanceof SVGElement ? style.fill : style.color);
    const ratio = contrast(over(ink, background), background);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    texts += 1;
    if (ratio < (large ? 3 : 4.5)) faint.set(`${parent.tagName}.${parent.className.baseVal ?? parent.className}: ${text.slice(0, 30)}`, ratio.toFixed(2));
  }

  // The smallest text of each drawing, in pixels of the screen; an index counts as large as its formula.
  const smallText = {};
  for (const drawing of article.querySelectorAll(".cv-figure > svg")) {
    if (!drawing.checkVisibility()) continue;
    for (const text of drawing.querySelectorAll("text")) {
      const matrix = text.getScreenCTM();
      const own = (part) => [...part.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.textContent.trim());
      const sizes = [text, ...text.querySelectorAll("tspan")].filter(own).map((part) => parseFloat(getComputedStyle(part).fontSize));
      const pixels = Math.max(...sizes) * Math.hypot(matrix.a, matrix.b);
      if (sizes.length && pixels < 8.99) smallText[(drawing.getAttribute("aria-label") ?? drawing.getAttribute("class")).slice(0, 40)] = pixels.toFixed(1);
    }
  }

  // A displayed formula that is wider than its box, or lies on its number.
  const cutFormulas = [];
  const coveredNumbers = [];
  for (const display of article.querySelectorAll("div.math")) {
    const box = display.querySelector("mjx-container");
    const drawing = box?.querySelector("svg");
    if (!drawing || !display.checkVisibility()) continue;
    const [outer, inner] = [box.getBoundingClientRect(), drawing.getBoundingClientRect()];
    if (inner.width > outer.width + 1) cutFormulas.push(`${display.id || display.textContent.slice(0, 40)}: ${Math.round(inner.width - outer.width)}`);
    const number = display.querySelector(":scope > .eqno")?.getBoundingClientRect();
    const right = Math.min(outer.right, inner.right);
    if (number && number.left < right - 1 && number.top < outer.bottom - 1 && number.bottom > outer.top + 1) coveredNumbers.push(display.id);
  }

  // Tables and figures of which a part is seen only by scrolling.
  const cutBoxes = [...article.querySelectorAll(".cv-table, .pst-scrollable-table-container, .cv-figure")]
    .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)
    .map((box) => `${(box.getAttribute("aria-label") ?? box.textContent).trim().slice(0, 50)}: ${box.scrollWidth - box.clientWidth}`);

  const formulas = [...article.querySelectorAll(".math")];
  const drawn = (formula) => (formula.querySelector("mjx-container svg")?.getBoundingClientRect().width ?? 0) > 0;
  return {
    texts,
    smallText,
    faint: Object.fromEntries(faint),
    rawMathematics,
    formulas: formulas.length,
    undrawn: formulas.filter((f) => f.checkVisibility() && !drawn(f)).map((f) => f.textContent.slice(0, 60)),
    mistakes: [...article.querySelectorAll("[data-mml-node=merror]")].map((e) => e.textContent),
    cutFormulas,
    coveredNumbers,
    cutBoxes,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
  };
}
