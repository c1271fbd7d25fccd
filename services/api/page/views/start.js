// What one can do here, for somebody who has never read about it.

import { getJson } from "../api.js";
import { h } from "../dom.js";
import { KINDS } from "../words.js";
import { jobRow } from "./rows.js";

const TILES = ["encrypt", "classify", "attack", "defend", "generate-mask", "evaluate", "train"];

export const tile = (href, title, text) => h("li", {}, h("a", { class: "tile", href }, h("strong", {}, title), h("span", {}, text)));

export async function show(outlet, { signal }) {
  const tiles = h("ul", { class: "tiles" });
  const recent = h("div", {});
  outlet.append(h("h1", {}, "What do you want to do?"), tiles, recent);
  const operations = await getJson("/v1/operations", { signal });
  const known = new Map(operations.map((one) => [one.kind, one]));
  tiles.append(
    ...TILES.filter((kind) => known.has(kind)).map((kind) => tile(`#/new/${kind}`, KINDS[kind].title, KINDS[kind].short)),
    tile("#/live", "Live camera", "See who wears a mask on your own camera, and watch an attack fool the classifier."),
    tile("#/datasets", "Data sets and models", "Bring pictures and models of your own."),
  );
  const { jobs } = await getJson("/v1/jobs?page_size=5", { signal });
  if (jobs.length) recent.append(h("h2", {}, "Lately"), h("ul", { class: "rows" }, jobs.map((job) => jobRow(job))), h("p", {}, h("a", { href: "#/jobs" }, "All jobs")));
}
