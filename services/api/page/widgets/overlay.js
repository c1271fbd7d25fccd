// Boxes over a photo, as elements: not burnt in, so that they can be filtered, read and hidden.

import { h } from "../dom.js";

export function overlay(faces, width, height) {
  return h("div", { class: "overlay" }, faces.map(({ box, words, tone, title }) => {
    const node = h("div", { class: `face-box tone-${tone ?? "plain"}`, title: title ?? words }, h("span", {}, words));
    node.style.left = `${(100 * box.x) / width}%`;
    node.style.top = `${(100 * box.y) / height}%`;
    node.style.width = `${(100 * box.width) / width}%`;
    node.style.height = `${(100 * box.height) / height}%`;
    if (box.y < height * 0.08) node.classList.add("word-below");
    return node;
  }));
}
