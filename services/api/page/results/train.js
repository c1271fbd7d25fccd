// A trained model: how good it is, and how it got there.

import { h } from "../dom.js";
import { figure, percent } from "../format.js";
import { rateCell, table } from "../widgets/table.js";
import { labelWords } from "../words.js";
import { liveCurves } from "./live.js";

export async function show(place, { result }) {
  place.append(h("p", { class: "lead" }, "The model ", h("a", { href: `#/models/${encodeURIComponent(result.model.id)}` }, result.model.id), ` is ready${result.test ? `: right on ${percent(result.test.accuracy.rate)} of the test pictures` : ""}.`), h("p", { class: "hint" }, "Any job can use it now: choose it as the model."));
  const rows = [["Validation (chosen by it)", result.validation]];
  if (result.test) rows.push(["Test", result.test.accuracy], ...Object.entries(result.test.recall).map(([name, one]) => [`Test: ${labelWords(name)}`, one]));
  place.append(table({ caption: "Accuracy with 95 % intervals", columns: ["Pictures", "Right", "Of", "Share"], rows: rows.map(([name, one]) => [name, { text: figure(one.right), sort: one.right }, { text: figure(one.total), sort: one.total }, rateCell(one, percent)]) }));
  const curves = liveCurves("train");
  place.append(curves.element);
  for (const epoch of result.epochs) curves.add("epoch", epoch);
  place.append(h("p", { class: "hint" }, `The weights of epoch ${result.best_epoch} were kept${result.stopped_early ? "; training ended early" : ""}.`));
}
