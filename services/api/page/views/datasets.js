// The data sets of the key, and a form to bring another.

import { getJson } from "../api.js";
import { details, h } from "../dom.js";
import { ago, moment, plural, size } from "../format.js";
import { button } from "../shell.js";
import { uploadForm } from "./upload.js";

export async function show(outlet, { query, signal }) {
  const list = h("ul", { class: "rows" });
  const more = h("p", {});
  const add = details("Add a data set", { class: "adding", open: query.has("add") }, await uploadForm("import-dataset", {
    label: "Archive or video", accept: ".zip,.tar,.tgz,.tar.gz,.mp4,.mov,.avi,.mkv,.webm", signal, hint: "A ZIP or TAR archive of pictures, with a folder for each class or with boxes in a known format; or a short video.",
  }));
  outlet.append(h("h1", {}, "Data sets"), add, list, more);
  let next = null;
  const page = async () => {
    const found = await getJson(`/v1/datasets?page_size=50${next ? `&page_token=${encodeURIComponent(next)}` : ""}`, { signal });
    next = found.next_page_token;
    list.append(...found.datasets.map((one) => h("li", { class: "row" }, h("a", { class: "row-main", href: `#/datasets/${one.id}` }, h("strong", {}, one.name), h("span", {}, `${plural(one.images, "picture")}, ${plural(one.class_count, "class", "classes")}`), h("time", { title: moment(one.created_at) }, ago(one.created_at))), h("span", { class: "row-word" }, `${size(one.size)} · ${one.keep ? "kept" : `until ${moment(one.expires_at)}`}`))));
    more.replaceChildren(...(next ? [button("Show older ones", page)] : []));
    if (!list.children.length) more.replaceChildren(h("span", { class: "hint" }, "No data set yet."));
  };
  await page();
}
