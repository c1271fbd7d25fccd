// Designs, on a sheet and to print, and how recognizers take their wearers.

import { download } from "../api.js";
import { h } from "../dom.js";
import { figure, percent } from "../format.js";
import { button } from "../shell.js";
import { rateCell, table } from "../widgets/table.js";
import { artifactUrl } from "./artifacts.js";
import { liveCurves } from "./live.js";
import { figureOf, whenNear } from "./pictures.js";

export async function show(place, { job, result, signal }) {
  if (!result.warnings.length) place.append(h("p", { class: "note" }, `These designs were tested on pictures alone (${result.tested}).`));
  if (result.sheet) place.append(await figureOf(job, result.sheet, "All designs", signal));
  if (result.worn) place.append(await figureOf(job, result.worn, "Designs as worn by people who were held out", signal));
  place.append(h("h2", {}, "To print"), h("ul", { class: "designs" }, result.designs.map((design, index) => {
    const item = h("li", {});
    whenNear(item, async () => item.prepend(await figureOf(job, design.picture, `Design ${index + 1}: ${figure(design.width_mm, 0)} × ${figure(design.height_mm, 0)} mm`, signal)), signal);
    item.append(button(`PDF of design ${index + 1}, A4 at true size`, () => download(artifactUrl(job, design.page), design.page)));
    return item;
  })));
  if (result.figures.length) place.append(h("h2", {}, "Whom recognizers see"), table({
    caption: "How often recognizers identify the wearer; less is better", columns: ["Recognizer", "Role", "Wearing", "Identified", "Accepted at 1 % false accepts", "Similarity"],
    rows: result.figures.map((one) => [one.recognizer, one.role === "judge" ? (one.held_out ? "judges, held out" : "judges") : "trained with", one.wearing, rateCell(one.rank_1, percent), rateCell(one.accepted, percent), { text: figure(one.similarity), sort: one.similarity }]),
  }));
  if (result.hog) {
    const { hog } = result;
    place.append(h("h2", {}, "Against dlib's face detector"), h("p", {}, `dlib finds ${figure(hog.found)} faces in the pattern${hog.tiling ? `; in one drawn face, tiled, ${figure(hog.tiling.found)}` : ""}.`), await figureOf(job, hog.detections, "The pattern with the faces that dlib finds", signal));
    if (hog.wearings.length) place.append(table({ caption: "Views in which no face is found", columns: ["Wearing", "Views", "Hidden"], rows: hog.wearings.map((one) => [one.wearing, one.views, one.hidden]) }));
  }
  const curves = liveCurves("generate-mask");
  place.append(curves.element);
  for (const epoch of result.epochs) curves.add("progress", epoch);
  for (const step of result.hog?.history ?? []) curves.add("progress", step);
}
