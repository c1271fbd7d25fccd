// Attacked faces or photos beside the clean ones.

import { blobUrl } from "../api.js";
import { h } from "../dom.js";
import { figure, percent, plural } from "../format.js";
import { compare } from "../widgets/compare.js";
import { overlay } from "../widgets/overlay.js";
import { table } from "../widgets/table.js";
import { labelWords } from "../words.js";
import { artifactUrl } from "./artifacts.js";
import { cropped } from "./crop.js";
import { figureOf, original, whenNear } from "./pictures.js";

export async function show(place, { job, result, signal }) {
  const { successes, counted, rate, low, high } = result.success;
  place.append(h("p", { class: "lead" }, counted ? `${successes} of ${plural(counted, "face")} fooled the classifier (${percent(rate)}, 95 % interval ${percent(low)} to ${percent(high)}).` : "No face counts: the classifier was wrong before, or none was found."));
  if (result.norms) place.append(h("p", { class: "hint" }, `Changed pixels: ${figure(result.norms.changed_pixels.median)} (median) · largest change: ${figure(result.norms.linf.median)} of 255 · L2: ${figure(result.norms.l2.median)}/255`));
  for (const [index, image] of result.images.slice(0, 200).entries()) {
    const card = h("article", { class: "photo-card", "aria-label": `Photo ${index + 1}` }, h("h2", { class: "card-title" }, `Photo ${index + 1}`));
    place.append(card);
    if (image.adversarial) whenNear(card, () => wholePhoto(card, image, index), signal);
    const pictures = h("div", { class: "crops" });
    card.append(pictures, faces(image, index));
    if (!image.adversarial) whenNear(card, async () => {
      for (const face of image.faces.filter((one) => one.adversarial).slice(0, 30)) pictures.append(await crop(image, face));
    }, signal);
  }
  for (const [name, words] of [[result.report, "Each face before, after, and the change"], [result.curve, "Success against queries"]]) {
    if (name) place.append(await figureOf(job, name, words, signal));
  }

  // The attacked face beside its place in the photo, both at the size that the classifier sees.
  async function crop(image, face) {
    const url = artifactUrl(job, face.adversarial);
    if (!url) return h("span", {});
    const words = `${labelWords(face.label_before)} → ${labelWords(face.label_after)}`;
    const tone = face.success ? "bad" : "good";
    const after = await blobUrl(url, signal);
    const clean = image.image.startsWith("img_") ? await original(image.image, signal) : null;
    const before = clean ? await cropped(clean, face.box, 0.15, signal, 224) : null;
    const shown = before ? compare({ before, after, width: 1, height: 1, beforeWords: "clean", afterWords: "attacked", pixelated: true }).element : h("img", { src: after, alt: `Attacked face: ${words}`, class: "pixelated" });
    return h("figure", { class: "crop" }, shown, h("figcaption", {}, h("span", { class: `badge tone-${tone}` }, face.success ? "fooled" : "held"), ` ${words}`));
  }

  async function wholePhoto(card, image, index) {
    const url = artifactUrl(job, image.adversarial);
    if (!url) return;
    const after = await blobUrl(url, signal);
    const before = await original(image.image, signal);
    const boxes = overlay(image.faces.map((face) => ({ box: face.box, words: labelWords(face.label_after), tone: face.success ? "bad" : "good" })), image.width, image.height);
    if (before) card.children[0].after(compare({ before, after, width: image.width, height: image.height, beforeWords: "clean", afterWords: "attacked", overlay: boxes }).element);
    else card.children[0].after(h("div", { class: "photo-stage" }, h("img", { src: after, alt: `Attacked photo ${index + 1}` }), boxes));
  }
}

function faces(image, index) {
  if (!image.faces.length) return h("p", { class: "hint" }, "No face was found.");
  return table({
    caption: `Faces of photo ${index + 1}`, columns: ["Face", "Before", "After", "Fooled", "Sure of the true label", "Queries", "Changed pixels", "Largest change"],
    rows: image.faces.map((face, number) => [{ text: `Face ${number + 1}`, sort: number }, labelWords(face.label_before), labelWords(face.label_after), face.success ? "yes" : face.counted ? "no" : "not counted",
      { text: `${percent(face.confidence_before)} → ${percent(face.confidence_after)}`, sort: face.confidence_after }, { text: figure(face.queries), sort: face.queries }, { text: figure(face.changed_pixels), sort: face.changed_pixels }, { text: `${face.linf}/255`, sort: face.linf }]),
  });
}
