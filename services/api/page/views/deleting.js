// Deletes a job with its photos: those that came with it die with it, those uploaded before go, too.

import { call, getJson } from "../api.js";
import { deleteImages } from "../widgets/photos.js";

function imagesIn(value, found = new Set()) {
  if (typeof value === "string" && /^img_[0-9a-f]{24}$/.test(value)) found.add(value);
  else if (value && typeof value === "object") for (const one of Object.values(value)) imagesIn(one, found);
  return found;
}

// Returns how many photos stay because another job still reads them.
export async function deleteJob(id) {
  const { spec } = await getJson(`/v1/jobs/${id}`);
  await call(`/v1/jobs/${id}`, { method: "DELETE" });
  return deleteImages([...imagesIn(spec)]);
}
