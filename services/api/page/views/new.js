// A new job of one kind: its form, its photos, its start.

import { call, getJson, postJson } from "../api.js";
import { h } from "../dom.js";
import { plural, size } from "../format.js";
import { SchemaForm, withIds } from "../form/schema-form.js";
import { snippets } from "../form/snippets.js";
import { go } from "../router.js";
import { announce, problemBox } from "../shell.js";
import { imageIsThere, isHandle, uploadAll } from "../widgets/photos.js";
import { KINDS, kindTitle } from "../words.js";

// What was entered and not sent yet, for who follows a link and comes back; until the tab closes.
const drafts = new Map();

export async function show(outlet, { params: { kind }, query, signal }) {
  const operation = await getJson(`/v1/operations/${encodeURIComponent(kind)}`, { signal });
  outlet.append(h("h1", {}, kindTitle(kind)), h("p", { class: "lead" }, KINDS[kind]?.short ?? operation.summary));
  const said = h("p", { class: "said", role: "status" });
  const bar = h("progress", { hidden: true, "aria-label": "Upload" });
  const problems = h("div", {});
  const go_ = h("button", { class: "primary" }, "Start");
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  let code;
  const form = new SchemaForm(operation, { signal, onchange: () => {
    code?.draw();
    drafts.set(kind, withoutPhotos(form.value()));
  } });
  code = snippets(() => ({ url: operation.url, spec: form.value(), photos: form.photos }));
  const element = h("form", { novalidate: true }, form.element, problems, h("p", { class: "actions sticky" }, go_, stop, said), bar, code.element);
  element.noValidate = true;
  outlet.append(element);

  const from = query.get("from");
  if (from) await fillFrom(from, form, outlet, signal);
  else if (drafts.has(kind)) form.set(drafts.get(kind));

  let uploads = null;
  stop.addEventListener("click", () => uploads?.abort());
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    problems.replaceChildren();
    form.clearErrors();
    go_.disabled = true;
    uploads = new AbortController();
    signal.addEventListener("abort", () => uploads.abort(), { once: true });
    try {
      const { photos } = form;
      const waiting = photos.filter((photo) => !photo.id);
      if (waiting.length) {
        said.textContent = "Checking…";
        await check(operation, form.value(), uploads.signal);
      }
      stop.hidden = !waiting.length;
      bar.hidden = !waiting.length;
      await uploadAll(photos, { signal: uploads.signal, onprogress: (done, total, number, all) => {
        bar.max = total || 1;
        bar.value = done;
        said.textContent = `Sending ${plural(all, "photo")}: ${number} done, ${size(done)} of ${size(total)}.`;
      } });
      stop.hidden = true;
      said.textContent = "Starting…";
      const job = await postJson(operation.url, withIds(form.value(), photos), { signal: uploads.signal });
      drafts.delete(kind);
      announce("The job is started.");
      go(`/jobs/${job.id}`);
    } catch (error) {
      for (const picker of form.context.pickers) picker.draw();
      if (signal.aborted) return;
      said.textContent = "";
      if (error.name === "AbortError") said.textContent = "Stopped. Nothing was started.";
      else {
        problems.append(problemBox(error));
        form.showErrors(error.errors ?? []);
      }
    } finally {
      go_.disabled = false;
      stop.hidden = bar.hidden = true;
    }
  });
}

// Checks the fields before the photos go up, so that a mistake costs no upload; tiny pictures stand in
// for the photos. Where other fields name photos, too, nothing can stand in for those.
async function check(operation, spec, signal) {
  const photos = (spec.images ?? []).filter(isHandle);
  const rest = { ...spec, images: (spec.images ?? []).filter((one) => !isHandle(one)) };
  if (!rest.images.length) delete rest.images;
  if (JSON.stringify(rest).includes('"photo:')) return;
  const canvas = new OffscreenCanvas(16, 16);
  canvas.getContext("2d").fillRect(0, 0, 16, 16);
  const dot = await canvas.convertToBlob();
  const form = new FormData();
  form.append("spec", JSON.stringify(rest));
  for (const _ of photos) form.append("image", dot, "photo.png");
  await call(`${operation.url}?validate_only=true`, { method: "POST", body: form, signal });
}

// Photos of this device are files, which no draft can hold.
function withoutPhotos(spec) {
  return JSON.parse(JSON.stringify(spec), (_, value) => (Array.isArray(value) ? value.filter((one) => typeof one !== "string" || !one.startsWith("photo:")) : value));
}

async function fillFrom(id, form, outlet, signal) {
  const job = await getJson(`/v1/jobs/${id}`, { signal });
  if (!job.spec) return;
  const { kind: _, ...spec } = job.spec;
  let gone = 0;
  if (spec.images?.length) {
    // Photos that came inside a request belong to that job alone, and others may be deleted.
    const there = await Promise.all(spec.images.map(imageIsThere));
    gone = there.filter((one) => !one).length;
    if (gone) {
      spec.images = spec.images.filter((_, index) => there[index]);
      if (Array.isArray(spec.faces)) spec.faces = "auto";
    }
  }
  form.set(spec);
  outlet.querySelector(".lead").after(h("p", { class: "note" }, "Filled in from ", h("a", { href: `#/jobs/${id}` }, "an earlier job"), gone ? `. ${plural(gone, "photo")} of it are no longer here: choose them again.` : "."));
}
