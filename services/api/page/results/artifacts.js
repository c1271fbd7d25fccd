// Every file of a result, to download singly or as one archive.

import { download } from "../api.js";
import { h } from "../dom.js";
import { plural, size } from "../format.js";
import { button } from "../shell.js";

export function artifactList(job) {
  if (!job.artifacts.length) return h("span", {});
  return h("section", { class: "files", "aria-label": "Files" },
    h("h2", {}, "Files"),
    h("p", { class: "actions" }, button(`Download ${plural(job.artifacts.length, "file")} as ZIP`, () => download(`${job.url}/artifacts.zip`, `${job.kind}-${job.id}.zip`))),
    h("ul", { class: "file-list" }, job.artifacts.map((file) =>
      h("li", {}, button(file.name, () => download(file.url, file.name), { class: "link", "aria-label": `Download ${file.name}` }), h("span", { class: "hint" }, ` ${size(file.size)}`)))));
}

export const artifactUrl = (job, name) => job.artifacts.find((one) => one.name === name)?.url;
