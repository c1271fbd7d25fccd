// Which faces of the photos are meant: found, whole photos, or boxes that the person draws.

import { freshId, h, prose } from "../dom.js";
import { announce } from "../shell.js";
import { BoxDrawer } from "../widgets/boxes.js";
import { choiceWords } from "../words.js";

export class FacesField {
  constructor({ name, schema, context, standard, path }) {
    Object.assign(this, { name, context, standard, path });
    this.boxes = new Map(); // photo → its boxes
    const whole = JSON.stringify(schema).includes('"whole"');
    this.ways = ["auto", ...(whole ? ["whole"] : []), "boxes"];
    const id = freshId("faces");
    this.error = h("p", { class: "field-error" });
    this.radios = this.ways.map((way) => h("input", { type: "radio", name: id, id: `${id}-${way}`, value: way, checked: way === "auto", onchange: () => this.draw() }));
    const words = { boxes: "the faces I draw a box around" };
    this.place = h("div", { class: "branch" });
    this.element = h("fieldset", { class: "field group" }, h("legend", {}, "Which faces"),
      h("div", { class: "radios" }, this.radios.map((radio, index) => h("span", {}, radio, h("label", { for: radio.id }, words[this.ways[index]] ?? choiceWords(this.ways[index]))))),
      h("p", { class: "hint" }, prose("Where a face is missed, draw a box around it.")), this.place, this.error);
    context.whenPhotosChange(() => this.way === "boxes" && this.draw());
  }

  get way() { return this.radios.find((radio) => radio.checked).value; }
  get photos() { return this.context.mainPhotos(); }

  async draw() {
    this.context.onchange();
    if (this.way !== "boxes") return this.place.replaceChildren();
    const { photos } = this;
    if (!photos.length) return this.place.replaceChildren(h("p", { class: "hint" }, "Choose photos first; they appear here."));
    const drawn = await Promise.all(photos.map(async (photo) => {
      photo.drawer ??= new BoxDrawer({
        url: await photo.picture(this.context.signal), name: photo.name, boxes: this.boxes.get(photo) ?? this.given?.[photos.indexOf(photo)] ?? [],
        onchange: (boxes) => (this.boxes.set(photo, boxes), this.context.onchange()),
      });
      return photo.drawer.element;
    }));
    if (this.way === "boxes") this.place.replaceChildren(...drawn);
    if (photos.length > 1 && !this.told) announce("Draw boxes on each photo below.");
    this.told = true;
  }

  raw() {
    if (this.way !== "boxes") return this.way;
    const { photos } = this;
    const lists = photos.map((photo, index) => this.boxes.get(photo) ?? this.given?.[index] ?? []);
    if (!lists.some((boxes) => boxes.length)) return [];
    return lists.length === 1 ? lists[0] : lists;
  }
  compact() { return this.raw(); }
  isChanged() { return this.way !== "auto"; }
  set(value) {
    const way = typeof value === "string" ? value : value ? "boxes" : "auto";
    this.radios.forEach((radio) => (radio.checked = radio.value === way));
    if (way === "boxes") this.given = Array.isArray(value[0]) ? value : [value];
    this.draw();
  }
  showError(_, text) {
    this.error.textContent = [this.error.textContent, text].filter(Boolean).join(" ");
  }
  clearErrors() { this.error.textContent = ""; }
}
