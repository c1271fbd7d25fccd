// The models that jobs can name, and a form to bring one.

import { getJson } from "../api.js";
import { details, h } from "../dom.js";
import { plural, size } from "../format.js";
import { table } from "../widgets/table.js";
import { labelWords } from "../words.js";
import { uploadForm } from "./upload.js";

export async function show(outlet, { query, signal }) {
  const { models } = await getJson("/v1/models", { signal });
  outlet.append(h("h1", {}, "Models"), details("Add a model", { class: "adding", open: query.has("add") }, await uploadForm("import-model", {
    label: "Weights", accept: ".safetensors,.onnx", signal, hint: "A safetensors file of one of the known architectures, or a face recognizer as ONNX. Nothing in it is ever run.",
  })));
  const tasks = [...new Set(models.map((one) => one.task))];
  for (const task of tasks) outlet.append(table({
    caption: TASKS[task] ?? task, columns: ["Model", "Architecture", "Classes", "Size", "From"],
    rows: models.filter((one) => one.task === task).map((one) => [
      { sort: one.id, node: h("span", {}, h("a", { href: `#/models/${encodeURIComponent(one.id)}` }, one.id), one.is_default ? h("span", { class: "badge" }, "the usual one") : "") },
      one.architecture, one.class_count > 5 ? plural(one.class_count, "class", "classes") : one.classes.map(labelWords).join(", ") || "–", { text: size(one.size), sort: one.size }, one.source === "yours" ? "yours" : "comes with Bauta"]),
  }));
}

const TASKS = { mask: "Who wears a mask", mask3: "Who wears a mask, and who wears it wrongly", recognize: "Whose face it is", faces: "Where faces are", "mask-transparency": "Where a mask covers a face", generator: "Designs of masks" };
