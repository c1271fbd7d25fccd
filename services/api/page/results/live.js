// Curves of a job that runs, redrawn from its events.

import { h } from "../dom.js";
import { curve } from "../widgets/curve.js";

const PLOTS = {
  train: () => [
    { plot: curve({ title: "Loss", series: [{ name: "train_loss", words: "training" }, { name: "val_loss", words: "validation" }] }), on: "epoch" },
    { plot: curve({ title: "Accuracy", series: [{ name: "train_accuracy", words: "training" }, { name: "val_accuracy", words: "validation" }, { name: "robust_accuracy", words: "under attack" }] }), on: "epoch" },
  ],
  "generate-mask": () => [
    { plot: curve({ title: "Similarity of the wearer to the bare face", series: [{ name: "similarity", words: "similarity" }] }), on: "progress", x: "epoch" },
    { plot: curve({ title: "Search", xWords: "step", series: [{ name: "fitness", words: "now" }, { name: "best_fitness", words: "best" }] }), on: "progress", x: "step" },
  ],
};

export function liveCurves(kind) {
  const plots = PLOTS[kind]?.() ?? [];
  const newest = h("div", { class: "newest" });
  return {
    element: h("div", { class: "curves" }, plots.map(({ plot }) => plot.element), newest),
    add(event, data) {
      for (const { plot, on, x = "epoch" } of plots) {
        if (event === on && data.phase !== "teacher" && typeof data[x] === "number") plot.add(data[x], data);
      }
      // Small pictures of designs as they come, as data in the event.
      const { picture } = data;
      if (typeof picture === "string" && /^data:image\/(png|jpeg|webp);base64,[A-Za-z0-9+/=]+$/.test(picture)) {
        newest.replaceChildren(h("figure", {}, h("img", { src: picture, alt: "The newest designs" }), h("figcaption", {}, "The newest designs")));
      }
    },
  };
}
