// Choosing photos: from files, by dropping, pasting, or the phone's camera; with thumbnails.

import { call, getJson, send, blobUrl } from "../api.js";
import { freshId, h } from "../dom.js";
import { plural, size } from "../format.js";
import { announce, inWords } from "../shell.js";

const UPLOADS = 3; // at once
let handles = 0;
export const isHandle = (value) => typeof value === "string" && value.startsWith("photo:");

// A photo is a file of this device, or one that the service has already. Its handle stands for its
// id until it is uploaded.
class Photo {
  constructor({ file = null, id = null }) {
    this.file = file;
    this.id = id;
    this.handle = `photo:${++handles}`;
    this.name = file?.name ?? id;
    this.error = null;
    this.url = file ? URL.createObjectURL(file) : null;
  }

  async picture(signal) {
    this.url ??= await blobUrl(`/v1/images/${this.id}/content`, signal);
    return this.url;
  }

  async upload(signal, onprogress) {
    if (this.id) return this.id;
    const answer = await send("/v1/images", this.file, { signal, onprogress, type: this.file.type || "application/octet-stream" });
    this.id = answer.id;
    this.uploadedHere = true;
    return this.id;
  }

  forget() {
    if (this.file) URL.revokeObjectURL(this.url);
  }
}

export class PhotoPicker {
  constructor({ label, hint, most = 10_000, signal, onchange = () => {}, pasting = false }) {
    this.photos = [];
    this.most = most;
    this.signal = signal;
    this.onchange = onchange;
    const id = freshId("photos");
    this.list = h("ul", { class: "thumbs", "aria-label": `${label}: chosen` });
    this.said = h("p", { class: "field-error", id: `${id}-said` });
    this.input = h("input", {
      type: "file", id, accept: "image/*", multiple: most > 1, class: "file",
      "aria-describedby": `${id}-said`,
      onchange: () => {
        this.add([...this.input.files]);
        this.input.value = "";
      },
    });
    const camera = h("input", {
      type: "file", accept: "image/*", capture: "environment", class: "file", id: `${id}-camera`,
      onchange: () => (this.add([...camera.files]), (camera.value = "")),
    });
    const zone = h("div", { class: "drop" },
      h("label", { for: id, class: "file-label" }, "Choose files"), this.input,
      h("span", { class: "only-touch" }, h("label", { for: `${id}-camera`, class: "file-label" }, "Take a photo"), camera),
      h("span", { class: "hint only-mouse" }, pasting ? "or drop them here, or paste with Ctrl+V" : "or drop them here"));
    for (const name of ["dragover", "dragleave", "drop"]) {
      zone.addEventListener(name, (event) => {
        event.preventDefault();
        zone.classList.toggle("over", name === "dragover");
        if (name === "drop") this.add([...event.dataTransfer.files]);
      });
    }
    if (pasting) {
      const pasted = (event) => {
        const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
        if (!files.length) return;
        event.preventDefault();
        this.add(files);
      };
      document.addEventListener("paste", pasted, { signal });
    }
    this.clear = h("button", { type: "button", class: "link", hidden: true, onclick: () => this.set([]) }, "Remove all");
    this.element = h("div", { class: "field photos", role: "group", "aria-label": label },
      h("span", { class: "label" }, label), hint ? h("span", { class: "hint" }, hint) : null, zone, this.said, this.list, this.clear);
    signal?.addEventListener("abort", () => this.photos.forEach((photo) => photo.forget()), { once: true });
  }

  add(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/") || /\.(jpe?g|png|webp|gif|tiff?|bmp|avif|heic|heif)$/i.test(file.name));
    const room = this.most - this.photos.length;
    const added = pictures.slice(0, Math.max(0, room)).map((file) => new Photo({ file }));
    this.photos.push(...added);
    const left = files.length - pictures.length;
    this.said.textContent = [
      left ? `${plural(left, "file")} left out: not a picture.` : "",
      pictures.length > room ? `At most ${plural(this.most, "photo")} fit here.` : "",
    ].join(" ").trim();
    announce(`${plural(added.length, "photo")} added, ${this.photos.length} in all.`);
    this.draw();
  }

  set(ids) {
    for (const photo of this.photos) photo.forget();
    this.photos = ids.map((id) => new Photo({ id }));
    this.draw();
  }

  draw() {
    this.list.replaceChildren(...this.photos.map((photo) => this.thumb(photo)));
    this.clear.hidden = this.photos.length < 2;
    this.onchange();
  }

  thumb(photo) {
    const image = h("img", { alt: "", loading: "lazy", decoding: "async", width: 96, height: 96 });
    image.addEventListener("error", () => image.replaceWith(h("span", { class: "no-preview" }, "no preview")));
    photo.picture(this.signal).then((url) => (image.src = url)).catch((error) => {
      if (error.name === "AbortError") return;
      image.dispatchEvent(new Event("error"));
    });
    const remove = h("button", { type: "button", class: "remove", "aria-label": `Remove ${photo.name}`, onclick: () => {
      const place = this.photos.indexOf(photo);
      photo.forget();
      this.photos.splice(place, 1);
      this.draw();
      (this.list.children[Math.min(place, this.photos.length - 1)]?.querySelector("button") ?? this.input).focus();
    } }, "×");
    photo.element = h("li", { class: photo.error ? "wrong" : "" }, image, remove,
      h("span", { class: "name" }, photo.file ? `${photo.name} (${size(photo.file.size)})` : "uploaded before"),
      photo.error ? h("span", { class: "field-error" }, photo.error) : null);
    return photo.element;
  }

  values() {
    return this.photos.map((photo) => photo.id ?? photo.handle);
  }

  showError(index, text) {
    const photo = this.photos[index];
    if (!photo) {
      this.said.textContent = text;
      return;
    }
    photo.error = text;
    this.draw();
  }

  clearErrors() {
    this.said.textContent = "";
    if (this.photos.some((photo) => photo.error)) {
      this.photos.forEach((photo) => (photo.error = null));
      this.draw();
    }
  }
}

// Uploads what is not there yet, some at a time. Throws after all were tried; those that did go up
// stay, so that a second try sends the rest alone.
export async function uploadAll(photos, { signal, onprogress }) {
  const waiting = photos.filter((photo) => !photo.id);
  const total = waiting.reduce((sum, photo) => sum + photo.file.size, 0);
  const loaded = new Map();
  let failed = null;
  const tell = () => onprogress([...loaded.values()].reduce((sum, bytes) => sum + bytes, 0), total, waiting.filter((photo) => photo.id).length, waiting.length);
  const queue = [...waiting];
  const worker = async () => {
    for (let photo = queue.shift(); photo && !signal.aborted; photo = queue.shift()) {
      try {
        photo.error = null;
        await retried(() => photo.upload(signal, (bytes) => (loaded.set(photo, bytes), tell())), signal);
      } catch (error) {
        if (error.name === "AbortError") throw error;
        photo.error = inWords(error);
        failed = error;
      }
      loaded.set(photo, photo.file.size);
      tell();
    }
  };
  await Promise.all(Array.from({ length: UPLOADS }, worker));
  if (failed) throw failed;
  return waiting;
}

// A full queue or a connection that broke is worth another try; a picture that was refused is not.
async function retried(work, signal) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const again = error.status === undefined || error.status === 429 || error.status === 503;
      if (signal.aborted || !again || attempt >= 3) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
    }
  }
}

// Deletes images by themselves; those that other live jobs read, or that are gone, are left.
export async function deleteImages(ids) {
  let left = 0;
  for (const id of ids) {
    try {
      await call(`/v1/images/${id}`, { method: "DELETE" });
    } catch (error) {
      if (error.status === 409) left++;
      else if (error.status !== 404) throw error;
    }
  }
  return left;
}

export const imageIsThere = (id) => getJson(`/v1/images/${id}`).then(() => true, (error) => { if (error.status === 404) return false; throw error; });
