// Protected photos beside the clean ones, and how recognizers answer.

import { blobUrl, download } from "../api.js";
import { details, h } from "../dom.js";
import { figure, percent } from "../format.js";
import { button } from "../shell.js";
import { compare } from "../widgets/compare.js";
import { table } from "../widgets/table.js";
import { artifactUrl } from "./artifacts.js";
import { figureOf, original, whenNear } from "./pictures.js";
import { verdictBadge, verdictList, verdictSentence } from "./verdict.js";

export async function show(place, { job, result, signal }) {
  place.append(verdictList(result.verdicts), h("p", { class: "hint" }, "Photos that are public already are not changed by this: delete or replace them where you can."));
  result.images.forEach((image, index) => {
    const card = h("article", { class: "photo-card", "aria-label": `Photo ${index + 1}` });
    place.append(card);
    whenNear(card, () => fill(card, image, index), signal);
    card.style.minHeight = "12rem";
  });

  async function fill(card, image, index) {
    card.style.minHeight = "";
    card.append(h("p", { class: "card-head" }, h("strong", {}, `Photo ${index + 1} `), verdictBadge(image.verdict)));
    const url = artifactUrl(job, image.photo);
    if (!url) return card.append(h("p", { class: "hint" }, "This photo was deleted."));
    const after = await blobUrl(url, signal);
    const before = await original(image.image, signal);
    let view = null;
    if (before) {
      view = compare({ before, after, width: image.width, height: image.height, beforeWords: "clean", afterWords: "changed" });
      card.append(view.element);
    } else card.append(h("img", { src: after, alt: `Changed photo ${index + 1}`, class: "result-picture" }));
    card.append(h("p", { class: "actions" }, button("Download this photo", () => download(url, image.photo))));
    for (const [number, face] of image.faces.entries()) {
      card.append(h("section", { class: "face-facts", "aria-label": `Face ${number + 1}` },
        h("p", {}, h("strong", {}, `Face ${number + 1} `), verdictBadge(face.verdict), view ? button("Look at it", async () => view.lookAt(face.box), { class: "link" }) : null),
        h("p", {}, verdictSentence(face.verdict), face.match_probability === null || face.match_probability === undefined ? "" : ` A strong recognizer matches it with a probability of ${percent(face.match_probability)}${face.match_interval ? ` (${percent(face.match_interval[0])} to ${percent(face.match_interval[1])})` : ""}.`),
        named(face),
        (face.lowered_by ?? []).length ? h("p", { class: "hint" }, `Why not better: ${face.lowered_by.join("; ")}.`) : null,
        details("What recognizers answer", {}, table({
          caption: `Similarity of face ${number + 1} to the clean photo, from −1 to 1`, columns: ["Recognizer", "Role", "Before", "After", "After JPEG", "At half the size", "After blur"],
          rows: face.similarities.map((one) => [one.recognizer, one.role === "judge" ? "judges" : "searched with", ...["before", "after", "after_jpeg", "after_half", "after_blur"].map((name) => ({ text: figure(one[name]), sort: one[name] }))]),
        }), h("p", { class: "hint" }, `Likeness of the face to before (SSIM): ${figure(face.ssim)} · largest change: ${face.max_change_delivered} of 255 · ${face.steps} steps${face.found_again ? "" : " · the face finder no longer finds it"}`))));
    }
    for (const left of image.left ?? []) card.append(h("p", { class: "hint" }, `One face stays as it was (similarity ${figure(left.similarity)}).`));
    if (image.difference) {
      const box = details("The change itself, amplified", {});
      box.addEventListener("toggle", async () => box.children.length < 2 && box.append(await figureOf(job, image.difference, "What was changed, amplified", signal)), { once: true });
      card.append(box);
    }
  }
}

// Whom recognizers take a face for, where the job named people.
function named(face) {
  const told = face.similarities.filter((one) => one.named_before && one.named_after);
  if (!told.length) return null;
  const who = (one) => `${one.name ?? "nobody named"} (${percent(one.probability, 0)})`;
  return table({ caption: "Whom recognizers take this face for", columns: ["Recognizer", "Role", "Before", "After"], rows: told.map((one) => [one.recognizer, one.role === "judge" ? "judges" : "searched with", who(one.named_before), who(one.named_after)]) });
}
