// One data set: what is in it, what was left out and why.

import { blobUrl, call, getJson } from "../api.js";
import { h } from "../dom.js";
import { figure, moment, plural, size } from "../format.js";
import { go } from "../router.js";
import { button, confirmed } from "../shell.js";
import { table } from "../widgets/table.js";
import { labelWords } from "../words.js";

export async function show(outlet, { params: { id }, signal }) {
  const url = `/v1/datasets/${encodeURIComponent(id)}`;
  const one = await getJson(url, { signal });
  outlet.append(h("h1", {}, one.name), h("p", { class: "lead" }, `${plural(one.images, "picture")} of ${plural(one.classes.length, "class", "classes")}, ${size(one.size)}; ${one.keep ? "kept until you delete it" : `deleted by itself ${moment(one.expires_at)}`}.`),
    h("p", { class: "actions" },
      button(one.keep ? "Let it expire" : "Keep it", async () => {
        await call(`${url}/keep`, { method: one.keep ? "DELETE" : "PUT" });
        outlet.replaceChildren();
        await show(outlet, { params: { id }, signal });
      }),
      h("a", { class: "button", href: "#/new/train" }, "Train on it"), h("a", { class: "button", href: "#/new/evaluate" }, "Measure on it"),
      button("Delete", async () => {
        if (!(await confirmed("Delete this data set?", "Its pictures go, and files that jobs made of them. Models trained on it stay.", "Delete"))) return;
        await call(url, { method: "DELETE" });
        go("/datasets");
      })));
  const splits = Object.keys(one.counts);
  const classes = [...new Set(splits.flatMap((split) => Object.keys(one.counts[split])))];
  outlet.append(table({ caption: "Examples by class and part", columns: ["Class", ...splits], rows: classes.slice(0, 200).map((name) => [labelWords(name), ...splits.map((split) => ({ text: figure(one.counts[split][name] ?? 0), sort: one.counts[split][name] ?? 0 }))]) }));
  outlet.append(h("p", { class: "hint" }, `${plural(one.duplicates, "repeated file")} and ${plural(one.leaks, "near-duplicate")} of test pictures left out · ${plural(one.near_duplicates, "near-duplicate")} kept together`));
  const { report } = one;
  if (report) {
    outlet.append(h("h2", {}, "What was taken in"), h("p", {}, `Recognized as ${report.format}: ${plural(report.boxes, "box", "boxes")}; ${plural(report.files_left_out, "file")} and ${plural(report.boxes_left_out, "box", "boxes")} left out.`));
    if (report.left_out.length) outlet.append(table({ caption: "What was left out, by reason", columns: ["Reason", "Files", "Boxes", "For example"], rows: report.left_out.map((why) => [why.sentence, why.files, why.boxes, why.examples.join("; ")]) }));
    for (const note of report.notes) outlet.append(h("p", { class: "note" }, note));
  }
  try {
    outlet.append(h("h2", {}, "Some of it"), h("img", { class: "result-picture", src: await blobUrl(one.contact_sheet_url, signal), alt: `Some pictures of each class of ${one.name}` }));
  } catch (error) {
    if (error.status !== 404) throw error;
    outlet.lastElementChild.remove();
  }
}
