// A form made from a job kind's JSON Schema.

import { h } from "../dom.js";
import { KINDS } from "../words.js";
import { Group } from "./fields.js";

export class SchemaForm {
  constructor(operation, { signal, onchange = () => {} }) {
    this.operation = operation;
    const listeners = [];
    const schema = operation.spec_schema;
    this.context = {
      defs: schema.$defs ?? {}, signal, pickers: [], lists: {}, photosLabel: KINDS[operation.kind]?.photos,
      onchange: () => {
        if (!this.root) return;
        const shown = this.context.mainPhotos().map((photo) => photo.handle).join();
        if (shown !== this.shown) listeners.forEach((listener) => listener());
        this.shown = shown;
        onchange();
      },
      whenPhotosChange: (listener) => listeners.push(listener),
      mainPhotos: () => this.root?.fields.get("images")?.picker?.photos ?? [],
    };
    this.root = new Group({ name: operation.kind, schema, context: this.context, path: [], required: true }, { bare: true, skip: ["kind"] });
    const first = KINDS[operation.kind]?.first ?? schema.required ?? [];
    const names = [...this.root.fields.keys()];
    const isFirst = (name) => first.includes(name) || schema.required?.includes(name);
    const order = [...first.filter((name) => names.includes(name)), ...names.filter((name) => !first.includes(name) && isFirst(name))];
    const rest = names.filter((name) => !order.includes(name));
    const node = (name) => this.root.fields.get(name).element;
    this.element = h("div", { class: "schema-form" }, h("div", { class: "fields" }, order.map(node)),
      rest.length ? h("details", { class: "more" }, h("summary", {}, "More settings"), h("div", { class: "fields" }, rest.map(node))) : null, this.root.error);
  }

  // What is sent: what differs from the defaults. Photos not uploaded yet stand as handles.
  value() {
    return this.root.compact();
  }

  set(spec) {
    this.root.set(spec);
  }

  get photos() {
    return this.context.pickers.filter((picker) => picker.element.isConnected).flatMap((picker) => picker.photos);
  }

  // Shows the problem document's errors beside their fields; returns those that have no place.
  showErrors(errors) {
    for (const { pointer, detail } of errors) {
      const parts = (pointer ?? "").split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
      this.root.showError(parts, detail);
    }
    const wrong = this.element.querySelector("[aria-invalid=true]") ?? [...this.element.querySelectorAll(".field-error")].find((one) => one.textContent);
    wrong?.scrollIntoView({ block: "center" });
    if (wrong?.matches("input, select, button, textarea")) wrong.focus();
  }

  clearErrors() {
    this.root.clearErrors();
  }
}

// Puts the ids of uploaded photos where their handles stand.
export function withIds(value, photos) {
  const ids = new Map(photos.map((photo) => [photo.handle, photo.id ?? photo.handle]));
  const walk = (one) => {
    if (typeof one === "string") return ids.get(one) ?? one;
    if (Array.isArray(one)) return one.map(walk);
    if (one && typeof one === "object") return Object.fromEntries(Object.entries(one).map(([name, inner]) => [name, walk(inner)]));
    return one;
  };
  return walk(value);
}
