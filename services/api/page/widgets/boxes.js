// Boxes drawn on a photo with mouse, finger or keyboard. Coordinates are pixels of the upright photo.

import { freshId, h } from "../dom.js";
import { announce } from "../shell.js";

const LEAST = 8;

export class BoxDrawer {
  constructor({ url, name, boxes = [], onchange = () => {} }) {
    this.boxes = boxes.map((box) => ({ ...box }));
    this.onchange = onchange;
    this.selected = -1;
    const hint = freshId("boxes");
    this.image = h("img", { src: url, alt: `Photo ${name}`, draggable: false });
    this.layer = h("div", { class: "box-layer" });
    this.stage = h("div", { class: "box-stage" }, this.image, this.layer);
    this.element = h("div", { class: "boxes", role: "group", "aria-label": `Boxes on ${name}`, "aria-describedby": hint },
      this.stage,
      h("p", { class: "hint", id: hint }, "Drag to draw a box around a face. With the keyboard: add a box, move it with the arrow keys, size it with Shift and the arrow keys, delete it with Delete."),
      h("p", { class: "actions" },
        h("button", { type: "button", onclick: () => this.addMiddle() }, "Add a box"),
        h("button", { type: "button", class: "link", onclick: () => ((this.boxes = []), this.draw()) }, "Remove all boxes")));
    this.image.addEventListener("load", () => this.draw());
    this.stage.addEventListener("pointerdown", (event) => this.begin(event));
  }

  get width() { return this.image.naturalWidth || 1; }
  get height() { return this.image.naturalHeight || 1; }

  at(event) {
    const frame = this.image.getBoundingClientRect();
    return {
      x: Math.min(1, Math.max(0, (event.clientX - frame.left) / frame.width)) * this.width,
      y: Math.min(1, Math.max(0, (event.clientY - frame.top) / frame.height)) * this.height,
    };
  }

  begin(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    const node = event.target.closest(".box");
    const start = this.at(event);
    let index = node ? Number(node.dataset.index) : -1;
    const before = index >= 0 ? { ...this.boxes[index] } : null;
    this.stage.setPointerCapture(event.pointerId);
    const move = (moved) => {
      const here = this.at(moved);
      if (before) {
        this.boxes[index] = this.inside({ ...before, x: before.x + here.x - start.x, y: before.y + here.y - start.y });
      } else {
        const box = { x: Math.min(start.x, here.x), y: Math.min(start.y, here.y), width: Math.abs(here.x - start.x), height: Math.abs(here.y - start.y) };
        if (index < 0) {
          if (box.width < LEAST || box.height < LEAST) return;
          index = this.boxes.push(box) - 1;
        } else this.boxes[index] = this.inside(box);
      }
      this.draw(index);
    };
    const end = () => {
      this.stage.removeEventListener("pointermove", move);
      if (index >= 0) this.layer.children[index]?.focus();
    };
    this.stage.addEventListener("pointermove", move);
    this.stage.addEventListener("pointerup", end, { once: true });
    this.stage.addEventListener("pointercancel", end, { once: true });
  }

  inside(box) {
    const width = Math.min(Math.max(LEAST, box.width), this.width);
    const height = Math.min(Math.max(LEAST, box.height), this.height);
    return {
      x: Math.round(Math.min(Math.max(0, box.x), this.width - width)),
      y: Math.round(Math.min(Math.max(0, box.y), this.height - height)),
      width: Math.round(width),
      height: Math.round(height),
    };
  }

  addMiddle() {
    const side = Math.min(this.width, this.height) / 3;
    this.boxes.push(this.inside({ x: (this.width - side) / 2, y: (this.height - side) / 2, width: side, height: side }));
    this.draw(this.boxes.length - 1);
    this.layer.lastElementChild.focus();
  }

  key(event, index) {
    const step = Math.max(1, Math.round(Math.min(this.width, this.height) / 100)) * (event.altKey ? 5 : 1);
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const box = this.boxes[index];
    if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      this.boxes.splice(index, 1);
      this.draw();
      announce("Box removed.");
      (this.layer.children[Math.min(index, this.boxes.length - 1)] ?? this.element.querySelector("button")).focus();
      return;
    }
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    const [dx, dy] = [way[0] * step, way[1] * step];
    this.boxes[index] = this.inside(event.shiftKey ? { ...box, width: box.width + dx, height: box.height + dy } : { ...box, x: box.x + dx, y: box.y + dy });
    this.draw(index);
    this.layer.children[index].focus();
  }

  draw() {
    const nodes = this.boxes.map((raw, index) => {
      const box = this.inside(raw);
      this.boxes[index] = box;
      const node = this.layer.children[index] ?? h("button", { type: "button", class: "box", data: { index }, onkeydown: (event) => this.key(event, index) });
      node.setAttribute("aria-label", `Box ${index + 1}: left ${box.x}, top ${box.y}, ${box.width} by ${box.height} pixels`);
      node.style.left = `${(100 * box.x) / this.width}%`;
      node.style.top = `${(100 * box.y) / this.height}%`;
      node.style.width = `${(100 * box.width) / this.width}%`;
      node.style.height = `${(100 * box.height) / this.height}%`;
      return node;
    });
    const focused = document.activeElement;
    this.layer.replaceChildren(...nodes);
    if (nodes.includes(focused)) focused.focus();
    this.onchange(this.boxes);
  }
}
