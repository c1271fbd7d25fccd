// Chooses how a result is shown by its kind.

import { showPictures } from "./pictures.js";

const VIEWS = {
  classify: () => import("./classify.js"),
  encrypt: () => import("./encrypt.js"),
  attack: () => import("./attack.js"),
  defend: () => import("./defend.js"),
  evaluate: () => import("./evaluate.js"),
  train: () => import("./train.js"),
  "generate-mask": () => import("./generate-mask.js"),
  "import-dataset": () => import("./imported.js"),
  "import-model": () => import("./imported.js"),
};

export async function showResult(place, context) {
  const load = VIEWS[context.job.kind];
  if (load) await (await load()).show(place, context);
  else await showPictures(place, context);
}
