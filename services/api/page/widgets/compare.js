// Two pictures of the same size, one over the other, parted by a slider; both zoom together.

import { freshId, h } from "../dom.js";

export function compare({ before, after, width, height, beforeWords = "before", afterWords = "after", overlay = null, pixelated = false }) {
  const id = freshId("compare");
  const first = h("img", { src: before, alt: `The photo ${beforeWords}`, draggable: false });
  const second = h("img", { src: after, alt: `The photo ${afterWords}`, draggable: false });
  const line = h("div", { class: "compare-line" });
  const inner = h("div", { class: "compare-inner" }, first, h("div", { class: "compare-after" }, second), overlay);
  const stage = h("div", { class: `compare-stage${pixelated ? " pixelated" : ""}` }, inner, line,
    h("span", { class: "compare-word left", "aria-hidden": "true" }, beforeWords), h("span", { class: "compare-word right", "aria-hidden": "true" }, afterWords));
  if (width && height) stage.style.aspectRatio = `${width} / ${height}`;
  const slider = h("input", { type: "range", min: 0, max: 100, value: 50, id, oninput: () => draw() });
  const zoom = h("input", { type: "range", min: 1, max: 8, step: 0.1, value: 1, id: `${id}-zoom`, oninput: () => draw() });
  let [x, y] = [0.5, 0.5];
  const after_ = inner.children[1];
  function draw() {
    const share = Number(slider.value);
    const times = Number(zoom.value);
    const shift = (place) => (0.5 - place) * (times - 1) * 100;
    inner.style.transform = `translate(${shift(x)}%, ${shift(y)}%) scale(${times})`;
    // The line stays where the slider is, whatever part of the picture is seen.
    const within = (share / 100 - 0.5) / times + 0.5 - shift(x) / 100 / times;
    after_.style.clipPath = `inset(0 0 0 ${100 * Math.min(1, Math.max(0, within))}%)`;
    line.style.left = `${share}%`;
    slider.setAttribute("aria-valuetext", `${share} percent ${beforeWords}, the rest ${afterWords}`);
    stage.classList.toggle("zoomed", times > 1);
  }
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.closest("button")) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    const frame = stage.getBoundingClientRect();
    const start = [event.clientX, event.clientY, x, y];
    const nearLine = Math.abs((event.clientX - frame.left) / frame.width - slider.value / 100) < 0.06 || Number(zoom.value) === 1;
    const move = (moved) => {
      if (nearLine) slider.value = (100 * (moved.clientX - frame.left)) / frame.width;
      else {
        const times = Number(zoom.value) - 1 || 1;
        x = Math.min(1, Math.max(0, start[2] - (moved.clientX - start[0]) / frame.width / times));
        y = Math.min(1, Math.max(0, start[3] - (moved.clientY - start[1]) / frame.height / times));
      }
      draw();
    };
    if (nearLine) move(event);
    stage.addEventListener("pointermove", move);
    const end = () => stage.removeEventListener("pointermove", move);
    stage.addEventListener("pointerup", end, { once: true });
    stage.addEventListener("pointercancel", end, { once: true });
  });
  // Zooms where one looks; the page scrolls as usual unless Ctrl is held.
  stage.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const frame = stage.getBoundingClientRect();
    if (Number(zoom.value) === 1) [x, y] = [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
    zoom.value = Number(zoom.value) * (event.deltaY < 0 ? 1.2 : 1 / 1.2);
    draw();
  }, { passive: false });
  const pan = (dx, dy) => ((x = Math.min(1, Math.max(0, x + dx))), (y = Math.min(1, Math.max(0, y + dy))), draw());
  const arrows = [["←", "left", -0.15, 0], ["→", "right", 0.15, 0], ["↑", "up", 0, -0.15], ["↓", "down", 0, 0.15]].map(([sign, words, dx, dy]) =>
    h("button", { type: "button", class: "small", "aria-label": `Look further ${words}`, onclick: () => pan(dx, dy) }, sign));
  draw();
  return {
    element: h("div", { class: "compare" }, stage, h("div", { class: "compare-controls" },
      h("label", { for: id }, `${beforeWords} / ${afterWords}`), slider, h("label", { for: `${id}-zoom` }, "Zoom"), zoom, h("span", { class: "arrows" }, arrows))),
    lookAt: (box) => {
      zoom.value = Math.min(8, Math.max(1, 0.6 * Math.min(width / box.width, height / box.height)));
      const times = Number(zoom.value);
      const place = (middle, whole) => (times > 1 ? Math.min(1, Math.max(0, 0.5 + (middle / whole - 0.5) * (times / (times - 1)))) : 0.5);
      x = place(box.x + box.width / 2, width);
      y = place(box.y + box.height / 2, height);
      draw();
    },
  };
}
