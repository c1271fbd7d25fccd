// Boxes over the photos with labels and probabilities, and a filter.

import { h } from "../dom.js";
import { percent, plural } from "../format.js";
import { overlay } from "../widgets/overlay.js";
import { labelWords } from "../words.js";
import { picture, original, whenNear } from "./pictures.js";

export async function show(place, { job, result, signal }) {
  const labels = Object.keys(result.counts);
  const total = Object.values(result.counts).reduce((sum, one) => sum + one, 0);
  place.append(h("p", { class: "lead" }, total ? labels.filter((label) => result.counts[label]).map((label) => `${plural(result.counts[label], "face")}: ${labelWords(label)}`).join(", ") + "." : "No face was found. Draw a box around one, or look for smaller faces, and run it again."));
  const least = h("input", { type: "range", min: 0, max: 100, value: 0, id: "least-sure", oninput: () => draw() });
  const leastWords = h("output", {}, "all");
  const ticks = labels.map((label) => {
    const box = h("input", { type: "checkbox", checked: true, id: `label-${labels.indexOf(label)}`, onchange: () => draw() });
    return { label, box, element: h("span", {}, box, h("label", { for: box.id }, labelWords(label))) };
  });
  place.append(h("div", { class: "filters", role: "group", "aria-label": "Show" }, ticks.map((tick) => tick.element), h("label", { for: "least-sure" }, "at least this sure"), least, leastWords));
  const cards = result.images.map((image, index) => {
    const stage = h("div", { class: "photo-stage" });
    const list = h("ul", { class: "face-list" });
    stage.style.aspectRatio = `${image.width} / ${image.height}`;
    const card = h("article", { class: "photo-card", "aria-label": `Photo ${index + 1}` }, stage, list);
    whenNear(card, async () => {
      const url = await original(image.image, signal);
      const shown = url ? h("img", { src: url, alt: `Photo ${index + 1}: ${plural(image.faces.length, "face")}` }) : image.annotated ? await picture(job, image.annotated, `Photo ${index + 1} with boxes`, signal) : h("p", { class: "hint" }, "The photo was deleted.");
      stage.prepend(shown);
    }, signal);
    return { image, stage, list };
  });
  place.append(...cards.map(({ stage }) => stage.parentElement));
  function draw() {
    const share = Number(least.value) / 100;
    leastWords.textContent = share ? percent(share, 0) : "all";
    const on = new Set(ticks.filter(({ box }) => box.checked).map(({ label }) => label));
    for (const { image, stage, list } of cards) {
      const faces = image.faces.filter((face) => on.has(face.label) && face.probabilities[face.label] >= share);
      const shown = faces.map((face) => ({ box: face.box, words: `${labelWords(face.label)} ${percent(face.probabilities[face.label], 0)}`, tone: face.label === "with_mask" ? "good" : face.label === "without_mask" ? "bad" : "fair" }));
      stage.querySelector(".overlay")?.remove();
      stage.append(overlay(shown, image.width, image.height));
      list.replaceChildren(...shown.map(({ words, box }, index) => h("li", {}, `Face ${index + 1}: ${words}, ${Math.round(box.width)} × ${Math.round(box.height)} pixels`)), ...(shown.length ? [] : [h("li", { class: "hint" }, image.faces.length ? "None that fits the filter." : "No face found.")]));
    }
  }
  draw();
}
