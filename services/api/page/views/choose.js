// Every job kind that the service has, known to this page or not.

import { getJson } from "../api.js";
import { h } from "../dom.js";
import { KINDS, kindTitle } from "../words.js";
import { tile } from "./start.js";

export async function show(outlet, { signal }) {
  outlet.append(h("h1", {}, "New job"));
  const operations = await getJson("/v1/operations", { signal });
  outlet.append(h("ul", { class: "tiles" }, operations.map(({ kind, summary, url }) => {
    const href = url === "/v1/datasets" ? "#/datasets?add" : url === "/v1/models" ? "#/models?add" : `#/new/${kind}`;
    return tile(href, kindTitle(kind), KINDS[kind]?.short ?? summary);
  })));
}
