// Fields of a form, one class for each shape of schema. Each has `element`, `raw()` (its whole
// value), `compact()` (the least that means the same), `set(value)` and `showError(parts, text)`.

import { freshId, h, prose } from "../dom.js";
import { figure, same } from "../format.js";
import { PhotoPicker } from "../widgets/photos.js";
import { choiceWords, nameOf, unitOf } from "../words.js";
import { datasetOptions, modelOptions } from "./choices.js";
import { FacesField } from "./faces.js";
import { defaultOf, deref, isDatasetId, isImageId, isModelId, nullable, rangeWords, tagged } from "./schema.js";

// Makes the field of a property. `context` has the definitions, the view's signal and the form.
export function fieldFor(name, schema, context, { required = false, path = [] } = {}) {
  const { defs } = context;
  const { schema: inner, isNullable } = nullable(schema, defs);
  const options = { name, schema: inner, isNullable, required, context, path, standard: defaultOf(schema, defs) };
  if ("const" in inner && inner.const !== true) return isNullable ? new Choice(options, [inner.const]) : new Fixed(options);
  if (name === "faces" && inner.anyOf) return new FacesField(options);
  if (inner.enum) return new Choice(options, inner.enum);
  if (tagged(inner, defs)) return isNullable ? new Optional(options, (one) => new Union(one)) : new Union(options);
  if (inner.anyOf) return new Either(options);
  if (inner.type === "array" && isImageId(deref(inner.items, defs))) return new Photos(options);
  if (inner.type === "array" && inner.prefixItems) return isNullable ? new Optional(options, (one) => new Tuple(one)) : new Tuple(options);
  if (inner.type === "array") return isNullable ? new Optional(options, (one) => new Growing(one)) : new Growing(options);
  if (inner.type === "object" && inner.properties) return isNullable ? new Optional(options, (one) => new Group(one)) : new Group(options);
  if (inner.type === "object") return new Pairs(options);
  if (inner.type === "boolean" || inner.const === true) return isNullable ? new Choice(options, [true, false]) : new Check(options);
  if (isDatasetId(inner)) return new Listed(options, datasetOptions);
  if (isModelId(inner) && !["model_id", "id"].includes(name)) return new Listed(options, modelOptions);
  if (inner.type === "integer" || inner.type === "number") return new Numeric(options);
  return new Text(options);
}

export class Field {
  constructor(options) {
    Object.assign(this, options);
    this.id = freshId("field");
    this.label = nameOf(this.name, this.schema);
    this.error = h("p", { class: "field-error", id: `${this.id}-error` });
  }

  changed() {
    this.context.onchange();
  }

  isChanged() {
    return !same(this.raw() ?? null, this.standard ?? null);
  }

  compact() {
    return this.raw();
  }

  showError(parts, text) {
    this.error.textContent = [this.error.textContent, text].filter(Boolean).join(" ");
    this.control?.setAttribute("aria-invalid", "true");
    for (let node = this.element; node; node = node.parentElement) if (node.tagName === "DETAILS") node.open = true;
  }

  clearErrors() {
    this.error.textContent = "";
    this.control?.removeAttribute("aria-invalid");
  }

  // A control with its name, unit, help and place for an error.
  framed(control, ...more) {
    this.control = control;
    control.id = this.id;
    const unit = unitOf(this.name);
    const range = rangeWords(this.schema);
    const help = [this.schema.description, range && `${range}${unit ? ` ${unit}` : ""}`].filter(Boolean);
    control.setAttribute("aria-describedby", `${this.id}-help ${this.id}-error`);
    return h("div", { class: "field" },
      h("label", { for: this.id }, this.label, this.required ? h("span", { class: "needed" }, " (needed)") : null),
      h("div", { class: "control" }, control, unit ? h("span", { class: "unit" }, unit) : null, ...more),
      h("p", { class: "hint", id: `${this.id}-help` }, help.map((text, index) => [index ? " · " : null, prose(text)])),
      this.error);
  }

  // Several controls under one name.
  grouped(...children) {
    const help = this.schema.description;
    return h("fieldset", { class: "field group" }, h("legend", {}, this.label, this.required ? h("span", { class: "needed" }, " (needed)") : null),
      help ? h("p", { class: "hint" }, prose(help)) : null, ...children, this.error);
  }
}

class Fixed extends Field {
  constructor(options) {
    super(options);
    this.element = h("span", { hidden: true });
  }
  raw() { return this.schema.const; }
  set() {}
}

class Text extends Field {
  constructor(options) {
    super(options);
    const { minLength, maxLength } = this.schema;
    this.input = h("input", { type: "text", maxLength: maxLength > 0 ? maxLength : 10_000, placeholder: this.standard ?? "", spellcheck: false, autocomplete: "off", oninput: () => this.changed() });
    this.minLength = minLength ?? 0;
    this.element = this.framed(this.input);
  }
  raw() { return this.input.value === "" ? (this.standard ?? undefined) : this.input.value; }
  set(value) { this.input.value = value === this.standard ? "" : (value ?? ""); }
}

class Numeric extends Field {
  constructor(options) {
    super(options);
    const { type } = this.schema;
    this.input = h("input", { type: "number", step: type === "integer" ? 1 : "any", inputMode: type === "integer" ? "numeric" : "decimal", placeholder: this.standard === null || this.standard === undefined ? "" : figure(this.standard, 6).replaceAll(",", ""), oninput: () => this.changed() });
    if (this.schema.minimum !== undefined) this.input.min = this.schema.minimum;
    if (this.schema.maximum !== undefined) this.input.max = this.schema.maximum;
    this.element = this.framed(this.input);
  }
  raw() {
    if (this.input.value === "") return this.standard === null ? null : this.standard;
    return Number(this.input.value);
  }
  set(value) { this.input.value = value === null || value === undefined || value === this.standard ? "" : value; }
}

class Check extends Field {
  constructor(options) {
    super(options);
    this.control = this.input = h("input", { type: "checkbox", id: this.id, checked: this.standard === true, onchange: () => this.changed(), "aria-describedby": `${this.id}-help ${this.id}-error` });
    this.element = h("div", { class: "field check" }, h("div", { class: "control" }, this.input, h("label", { for: this.id }, this.label)),
      h("p", { class: "hint", id: `${this.id}-help` }, this.schema.description ? prose(this.schema.description) : ""), this.error);
  }
  raw() { return this.input.checked; }
  set(value) { this.input.checked = value === true; }
}

class Choice extends Field {
  constructor(options, values) {
    super(options);
    this.values = this.isNullable || (!this.required && this.standard === undefined) ? [null, ...values] : values;
    this.select = h("select", { onchange: () => this.changed() }, this.values.map((value, index) => new Option(value === null ? "as the service decides" : value === true ? "yes" : value === false ? "no" : choiceWords(value, this.name), index)));
    this.element = this.framed(this.select);
    this.set(this.standard ?? this.values[0]);
  }
  raw() { return this.values[this.select.selectedIndex] ?? (this.isNullable ? null : undefined); }
  set(value) { this.select.selectedIndex = Math.max(0, this.values.indexOf(value ?? null)); }
}

// A choice among what the service has: models, data sets.
class Listed extends Field {
  constructor(options, load) {
    super(options);
    this.select = h("select", { onchange: () => this.changed() }, this.nothing());
    this.element = this.framed(this.select);
    this.wanted = null;
    load(this.context, this.name).then(
      (found) => {
        this.select.replaceChildren(this.nothing(), ...found.map(([id, words]) => new Option(words, id)));
        if (!found.length) this.error.textContent = "There is none yet.";
        this.set(this.wanted);
      },
      (error) => error.name !== "AbortError" && (this.error.textContent = "The list could not be loaded."),
    );
  }
  nothing() { return new Option(this.isNullable || this.standard !== undefined ? "as the service decides" : "choose…", ""); }
  raw() { return this.select.value || (this.wanted ?? null) || (this.isNullable ? null : undefined); }
  set(value) {
    this.wanted = null;
    this.select.value = value ?? "";
    if (value && this.select.value !== value) {
      // Not listed, or not yet: kept all the same.
      this.wanted = value;
      this.select.append(new Option(value, value));
      this.select.value = value;
    }
  }
}

class Photos extends Field {
  constructor(options) {
    super(options);
    const isMain = this.path.length === 1 && this.name === "images";
    const words = isMain ? this.context.photosLabel : null;
    this.picker = new PhotoPicker({
      label: `${words ?? this.label}${this.required ? " (needed)" : ""}`, most: this.schema.maxItems ?? 10_000, signal: this.context.signal, pasting: isMain,
      hint: isMain ? null : this.schema.description, onchange: () => this.changed(),
    });
    this.element = this.picker.element;
    this.context.pickers.push(this.picker);
  }
  raw() {
    const values = this.picker.values();
    return values.length || !this.required ? values : undefined;
  }
  isChanged() { return this.picker.photos.length > 0; }
  set(value) { this.picker.set(value ?? []); }
  showError([index], text) { this.picker.showError(index === undefined ? -1 : Number(index), text); }
  clearErrors() { this.picker.clearErrors(); }
}

export class Group extends Field {
  constructor(options, { bare = false, skip = [] } = {}) {
    super(options);
    const needed = new Set(this.schema.required ?? []);
    this.fields = new Map(Object.entries(this.schema.properties).filter(([name]) => !skip.includes(name)).map(([name, schema]) =>
      [name, fieldFor(name, schema, this.context, { required: needed.has(name), path: [...this.path, name] })]));
    const nodes = [...this.fields.values()].map((field) => field.element);
    if (bare) this.element = h("div", { class: "fields" }, nodes);
    else {
      this.element = h("details", { class: "field group" }, h("summary", {}, this.label),
        this.schema.description ? h("p", { class: "hint" }, prose(this.schema.description)) : null, h("div", { class: "fields" }, nodes), this.error);
      if (this.required) this.element.open = true;
    }
    if (this.standard && typeof this.standard === "object") this.set(this.standard);
  }
  raw() {
    const value = {};
    for (const [name, field] of this.fields) {
      const raw = field.raw();
      if (raw !== undefined) value[name] = raw;
    }
    return value;
  }
  // Only what differs from what the schema says anyway.
  compact() {
    const value = {};
    for (const [name, field] of this.fields) {
      if (field instanceof Fixed ? field.required : !(field.isChanged() || field.required)) continue;
      const compact = field.compact();
      if (compact !== undefined) value[name] = compact;
    }
    return value;
  }
  isChanged() { return [...this.fields.values()].some((field) => !(field instanceof Fixed) && field.isChanged()); }
  set(value) {
    for (const [name, field] of this.fields) field.set(value && name in value ? value[name] : field.standard);
  }
  showError([name, ...rest], text) {
    const field = this.fields.get(name);
    if (field) field.showError(rest, text);
    else super.showError([], name === undefined ? text : `${name}: ${text}`);
  }
  clearErrors() {
    super.clearErrors();
    for (const field of this.fields.values()) field.clearErrors();
  }
}

class Union extends Field {
  constructor(options) {
    super(options);
    const { tag, branches } = tagged(this.schema, this.context.defs);
    this.tag = tag;
    this.branches = branches;
    this.values = [...branches.keys()];
    this.select = h("select", { id: this.id, onchange: () => (this.open(this.values[this.select.selectedIndex]), this.changed()) }, this.values.map((value) => new Option(choiceWords(value, this.name))));
    this.place = h("div", { class: "branch" });
    this.control = this.select;
    this.element = this.grouped(h("div", { class: "field" }, h("label", { for: this.id, class: "unseen" }, `${this.label}: which`), this.select), this.place);
    this.set(this.standard);
  }
  open(value) {
    this.value = value;
    const schema = this.branches.get(value);
    this.group = new Group({ ...this, schema, required: false, standard: undefined, name: value }, { bare: true, skip: [this.tag] });
    const count = [...this.group.fields.values()].length;
    this.place.replaceChildren(h("p", { class: "hint" }, prose(schema.description ?? "")), ...(count ? [this.group.element] : []));
  }
  raw() { return { [this.tag]: this.value, ...this.group.raw() }; }
  compact() { return { [this.tag]: this.value, ...this.group.compact() }; }
  set(value) {
    const chosen = value?.[this.tag] ?? this.values[0];
    this.select.selectedIndex = this.values.indexOf(chosen);
    this.open(chosen);
    if (value) this.group.set(value);
  }
  showError([name, ...rest], text) {
    if (name === undefined || !this.group.fields.has(name)) super.showError([], text);
    else this.group.showError([name, ...rest], text);
  }
  clearErrors() { super.clearErrors(); this.group.clearErrors(); }
}

// A union told apart by its shape: each enum value, and each type, is a choice.
class Either extends Field {
  constructor(options) {
    super(options);
    this.ways = [];
    for (const branch of this.schema.anyOf.map((one) => deref(one, this.context.defs))) {
      if (branch.enum) for (const value of branch.enum) this.ways.push({ words: choiceWords(value, this.name), value });
      else if ("const" in branch) this.ways.push({ words: choiceWords(branch.const, this.name), value: branch.const });
      else this.ways.push({ words: (branch.title ?? branch.type).replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase(), branch });
    }
    if (this.isNullable) this.ways.unshift({ words: "as the service decides", value: null });
    this.select = h("select", { id: this.id, onchange: () => (this.open(), this.changed()) }, this.ways.map((way) => new Option(way.words)));
    this.place = h("div", { class: "branch" });
    this.control = this.select;
    this.element = this.grouped(h("div", { class: "field" }, h("label", { for: this.id, class: "unseen" }, `${this.label}: which`), this.select), this.place);
    this.set(this.standard);
  }
  open() {
    const way = this.ways[this.select.selectedIndex];
    this.inner = way.branch ? fieldFor(this.name, { ...way.branch, default: undefined }, this.context, { path: this.path }) : null;
    if (this.inner?.element.tagName === "DETAILS") this.inner.element.open = true;
    this.place.replaceChildren(...(this.inner ? [this.inner.element] : []));
  }
  raw() { return this.inner ? this.inner.raw() : this.ways[this.select.selectedIndex].value; }
  compact() { return this.inner ? this.inner.compact() : this.raw(); }
  set(value) {
    let index = this.ways.findIndex((way) => !way.branch && way.value === (value ?? null));
    if (index < 0 && value !== undefined && value !== null) {
      index = this.ways.findIndex(({ branch }) => branch && (Array.isArray(value) ? branch.type === "array" : typeof value === "object" ? branch.type === "object" && Object.keys(value).every((name) => name in (branch.properties ?? {})) : branch.type === typeof value));
    }
    this.select.selectedIndex = Math.max(0, index);
    this.open();
    this.inner?.set(value);
  }
  showError(parts, text) { this.inner ? this.inner.showError(parts, text) : super.showError(parts, text); }
  clearErrors() { super.clearErrors(); this.inner?.clearErrors(); }
}

// Something that may be left out: a box to tick opens it.
class Optional extends Field {
  constructor(options, make) {
    super(options);
    this.make = make;
    this.tick = h("input", { type: "checkbox", id: this.id, onchange: () => (this.open(this.tick.checked), this.changed()) });
    this.place = h("div", { class: "branch" });
    this.element = h("div", { class: "field optional" },
      h("div", { class: "control" }, this.tick, h("label", { for: this.id }, `Set: ${this.label}`)),
      this.schema.description ? h("p", { class: "hint" }, prose(this.schema.description)) : null, this.place, this.error);
    if (this.standard) this.set(this.standard);
  }
  open(on) {
    this.tick.checked = on;
    this.inner = on ? this.make({ ...this, schema: { ...this.schema, description: undefined }, isNullable: false, standard: undefined }) : null;
    if (this.inner?.element.tagName === "DETAILS") this.inner.element.open = true;
    this.place.replaceChildren(...(this.inner ? [this.inner.element] : []));
  }
  raw() { return this.inner ? this.inner.raw() : null; }
  compact() { return this.inner ? this.inner.compact() : null; }
  set(value) {
    this.open(value !== null && value !== undefined);
    this.inner?.set(value);
  }
  showError(parts, text) { this.inner ? this.inner.showError(parts, text) : super.showError(parts, text); }
  clearErrors() { super.clearErrors(); this.inner?.clearErrors(); }
}

class Growing extends Field {
  constructor(options) {
    super(options);
    this.items = [];
    this.list = h("ol", { class: "growing" });
    this.add = h("button", { type: "button", onclick: () => {
      this.append(undefined);
      this.draw();
      this.changed();
      this.list.lastElementChild?.querySelector("input, select, textarea, button")?.focus();
    } }, `Add to ${this.label.toLowerCase()}`);
    this.control = this.add;
    this.element = this.grouped(this.list, this.add);
    this.set(this.standard ?? []);
  }
  append(value) {
    const { title: _, ...schema } = deref(this.schema.items, this.context.defs);
    const field = fieldFor(this.name, { ...schema }, this.context, { path: [...this.path, this.items.length] });
    if (value !== undefined) field.set(value);
    if (field.element.tagName === "DETAILS") field.element.open = true;
    this.items.push(field);
  }
  draw() {
    this.add.hidden = this.items.length >= (this.schema.maxItems ?? Infinity);
    this.list.replaceChildren(...this.items.map((field, index) => {
      const node = this.list.children[index];
      const remove = h("button", { type: "button", class: "remove", "aria-label": `Remove number ${index + 1} of ${this.label.toLowerCase()}`, onclick: () => {
        this.items.splice(index, 1);
        this.draw();
        this.changed();
        this.add.focus();
      } }, "×");
      void node;
      return h("li", {}, field.element, remove);
    }));
  }
  raw() {
    const values = this.items.map((field) => field.raw()).filter((value) => value !== undefined && value !== null && value !== "");
    return values.length || this.standard !== null ? values : null;
  }
  compact() {
    return this.items.map((field) => field.compact()).filter((value) => value !== undefined && value !== null && value !== "");
  }
  set(value) {
    this.items = [];
    for (const item of value ?? []) this.append(item);
    this.draw();
  }
  showError([index, ...rest], text) {
    const field = this.items[Number(index)];
    if (index === undefined || !field) super.showError([], text);
    else field.showError(rest, text);
  }
  clearErrors() { super.clearErrors(); this.items.forEach((field) => field.clearErrors()); }
}

class Tuple extends Field {
  constructor(options) {
    super(options);
    this.parts = this.schema.prefixItems.map((part, index) => fieldFor(`${this.name} ${index + 1}`, part, this.context));
    this.element = this.grouped(h("div", { class: "fields row" }, this.parts.map((part) => part.element)));
  }
  raw() { return this.parts.map((part) => part.raw() ?? 0); }
  set(value) { (value ?? []).forEach((one, index) => this.parts[index]?.set(one)); }
  showError([index], text) { (this.parts[Number(index)] ?? { showError: (_, words) => super.showError([], words) }).showError([], text); }
}

// Names with values: free-form objects.
class Pairs extends Field {
  constructor(options) {
    super(options);
    this.rows = [];
    this.list = h("ul", { class: "growing" });
    this.valuesAreText = this.schema.additionalProperties?.type === "string";
    this.add = h("button", { type: "button", onclick: () => (this.append("", ""), this.list.lastElementChild.querySelector("input").focus()) }, `Add to ${this.label.toLowerCase()}`);
    this.element = this.grouped(this.list, this.add);
    this.set(this.standard ?? {});
  }
  append(name, value) {
    const row = {
      name: h("input", { type: "text", value: name, "aria-label": `${this.label}: name`, oninput: () => this.changed() }),
      value: h("input", { type: "text", value, "aria-label": `${this.label}: value`, oninput: () => this.changed() }),
    };
    const item = h("li", { class: "pair" }, row.name, h("span", {}, "→"), row.value, h("button", { type: "button", class: "remove", "aria-label": `Remove ${name || "this one"}`, onclick: () => {
      this.rows.splice(this.rows.indexOf(row), 1);
      item.remove();
      this.changed();
      this.add.focus();
    } }, "×"));
    this.rows.push(row);
    this.list.append(item);
  }
  raw() {
    const filled = this.rows.filter((row) => row.name.value);
    if (!filled.length) return this.standard ?? {};
    return Object.fromEntries(filled.map((row) => [row.name.value, this.valuesAreText ? row.value.value : loose(row.value.value)]));
  }
  set(value) {
    this.rows = [];
    this.list.replaceChildren();
    for (const [name, one] of Object.entries(value ?? {})) this.append(name, typeof one === "string" ? one : JSON.stringify(one));
  }
}

function loose(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
