// What became of an upload.

import { h } from "../dom.js";

export async function show(place, { result }) {
  if (result.dataset) place.append(h("p", { class: "lead" }, "The data set is here: ", h("a", { href: `#/datasets/${result.dataset}` }, "look at it"), "."));
  else place.append(h("p", { class: "lead" }, "The model is here: ", h("a", { href: `#/models/${encodeURIComponent(result.model)}` }, result.model), "."));
}
