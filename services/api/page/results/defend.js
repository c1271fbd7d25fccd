// Faces before and after defenses, and what the change of the answer means.

import { blobUrl } from "../api.js";
import { h } from "../dom.js";
import { figure, percent } from "../format.js";
import { overlay } from "../widgets/overlay.js";
import { table } from "../widgets/table.js";
import { choiceWords, labelWords } from "../words.js";
import { artifactUrl } from "./artifacts.js";
import { figureOf, original, whenNear } from "./pictures.js";
import { cropped } from "./crop.js";
import { compare } from "../widgets/compare.js";
import { verdictBadge, verdictList, verdictSentence } from "./verdict.js";

const TONES = { steady: "good", suspicious: "bad" };

export async function show(place, { job, result, signal }) {
  place.append(Object.keys(result.verdicts).length ? verdictList(result.verdicts) : h("p", { class: "lead" }, "No face was found."));
  for (const [index, image] of result.images.entries()) {
    const stage = h("div", { class: "photo-stage" });
    stage.style.aspectRatio = `${image.width} / ${image.height}`;
    const card = h("article", { class: "photo-card", "aria-label": `Photo ${index + 1}` }, h("h2", { class: "card-title" }, `Photo ${index + 1}`), stage);
    place.append(card);
    whenNear(card, async () => {
      const url = await original(image.image, signal);
      if (url) stage.append(h("img", { src: url, alt: `Photo ${index + 1}` }), overlay(image.faces.map((face, number) => ({ box: face.box, words: `Face ${number + 1}: ${labelWords(face.steps.at(-1)?.label ?? face.before.label)}`, tone: TONES[face.verdict] ?? "fair" })), image.width, image.height));
      else stage.append(h("p", { class: "hint" }, "The photo was deleted."));
      for (const [number, face] of image.faces.slice(0, 30).entries()) card.append(await faceFacts(face, number, url));
      if (image.report) card.append(await figureOf(job, image.report, "Every step", signal));
    }, signal);
  }

  async function faceFacts(face, number, url) {
    const defended = artifactUrl(job, face.defended);
    let pictures = null;
    if (defended) {
      const after = await blobUrl(defended, signal);
      const size = face.steps.at(-1)?.size ?? [224, 224];
      const before = url ? await cropped(url, face.box, 0.15, signal) : null;
      const words = { beforeWords: "cut", afterWords: "defended" };
      pictures = before ? compare({ before, after, width: size[1], height: size[0], pixelated: true, ...words }).element : h("img", { src: after, alt: `Face ${number + 1}, defended`, class: "pixelated" });
    }
    const answer = (one) => ({ text: `${labelWords(one.label)} ${percent(one.probabilities[one.label])}`, sort: one.probabilities[one.label] });
    return h("section", { class: "face-facts", "aria-label": `Face ${number + 1}` }, h("p", {}, h("strong", {}, `Face ${number + 1} `), verdictBadge(face.verdict)), h("p", {}, verdictSentence(face.verdict)), h("div", { class: "crop-compare" }, pictures),
      table({ caption: `Face ${number + 1}, step by step`, columns: ["Step", "Answer", "Changed pixels", "Mean change"],
        rows: [[{ text: "before", sort: 0 }, answer(face.before), "–", "–"], ...face.steps.map((step, index) => [{ text: choiceWords(step.defense), sort: index + 1 }, answer(step), { text: figure(step.changed_pixels), sort: step.changed_pixels }, { text: step.mean_change === null ? "–" : `${figure(step.mean_change, 2)}/255`, sort: step.mean_change }])] }),
      h("p", { class: "hint" }, `Squeezing score ${figure(face.squeezing_score)}${face.suspicious_pixels.length ? ` · ${face.suspicious_pixels.length} suspicious pixels` : ""}`));
  }
}
