// What lists of models and data sets offer, loaded once for a form.

import { getJson } from "../api.js";
import { plural } from "../format.js";

const once = (context, name, load) => (context.lists[name] ??= load());

const TASKS = { recognizers: "recognizer", judges: "recognizer", from_model: "generator" };

export async function modelOptions(context, name) {
  const { models } = await once(context, "models", () => getJson("/v1/models", { signal: context.signal }));
  const task = TASKS[name];
  const fits = models.filter((model) => {
    if (task === "recognizer") return /recogni/.test(model.task);
    if (task === "generator") return /generator/.test(model.task);
    return !/recogni|generator|faces|transparency/.test(model.task);
  });
  return (fits.length ? fits : models).map((model) => [
    model.id,
    `${model.id}${model.is_default ? " (the usual one)" : ""}, ${model.architecture}${model.source === "yours" ? ", yours" : ""}`,
  ]);
}

export async function datasetOptions(context) {
  const { datasets } = await once(context, "datasets", () => getJson("/v1/datasets?page_size=200", { signal: context.signal }));
  return datasets.map((one) => [one.id, `${one.name}, ${plural(one.images, "picture")}`]);
}
