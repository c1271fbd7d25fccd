// Pictures of a result.

import { blobUrl } from "../api.js";
import { h } from "../dom.js";
import { artifactUrl } from "./artifacts.js";

export async function picture(job, name, alt, signal, properties = {}) {
  const url = artifactUrl(job, name);
  if (!url) return h("p", { class: "hint" }, `${name} is no longer here.`);
  return h("img", { src: await blobUrl(url, signal), alt, class: "result-picture", ...properties });
}

export async function figureOf(job, name, caption, signal, properties) {
  return h("figure", {}, await picture(job, name, caption, signal, properties), h("figcaption", {}, caption));
}

export async function showPictures(place, { job, signal }) {
  for (const file of job.artifacts.filter((one) => one.media_type.startsWith("image/")).slice(0, 20)) {
    place.append(await figureOf(job, file.name, file.name, signal));
  }
}

// The photo as it was uploaded; null when it has been deleted since.
export async function original(id, signal) {
  try {
    return await blobUrl(`/v1/images/${id}/content`, signal);
  } catch (error) {
    if (error.status === 404 || error.status === 422) return null;
    throw error;
  }
}

// Loads what a long page shows when it comes near.
export function whenNear(node, load, signal) {
  const watcher = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watcher.disconnect();
    load().catch((error) => error.name === "AbortError" || node.append(h("p", { class: "field-error" }, "This could not be loaded.")));
  }, { rootMargin: "600px" });
  watcher.observe(node);
  signal.addEventListener("abort", () => watcher.disconnect(), { once: true });
}
