// A table that sorts by any column. A cell is text, or {text, sort, node}.

import { h } from "../dom.js";
import { announce } from "../shell.js";

export function table({ caption, columns, rows }) {
  let by = -1;
  let down = false;
  const body = h("tbody", {});
  const keyOf = (cell) => (cell !== null && typeof cell === "object" ? (cell.sort ?? cell.text) : cell);
  const draw = () => {
    const shown = [...rows];
    if (by >= 0) {
      shown.sort((a, b) => {
        const [one, other] = [keyOf(a[by]), keyOf(b[by])];
        if (one === other) return 0;
        if (one === null || one === undefined || one === "–") return 1;
        if (other === null || other === undefined || other === "–") return -1;
        return (one < other ? -1 : 1) * (down ? -1 : 1);
      });
    }
    body.replaceChildren(...shown.map((row) => h("tr", {}, row.map((cell, index) => {
      const content = cell !== null && typeof cell === "object" ? (cell.node ?? cell.text) : (cell ?? "–");
      return index ? h("td", {}, content) : h("th", { scope: "row" }, content);
    }))));
    heads.forEach((head, index) => head.setAttribute("aria-sort", index === by ? (down ? "descending" : "ascending") : "none"));
  };
  const heads = columns.map((name, index) => h("th", { scope: "col" }, h("button", { type: "button", class: "sort", onclick: () => {
    down = by === index ? !down : false;
    by = index;
    draw();
    announce(`Sorted by ${name}, ${down ? "descending" : "ascending"}.`);
  } }, name)));
  draw();
  return h("div", { class: "table-frame", tabIndex: 0, role: "group", "aria-label": caption }, h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body));
}

// A share with its interval, as a number and as a bar.
export function rateCell(rate, percent) {
  if (!rate || rate.rate === null || rate.rate === undefined) return { text: "–", sort: null };
  const text = `${percent(rate.rate)} (${percent(rate.low)} to ${percent(rate.high)})`;
  const bar = h("span", { class: "rate-bar", "aria-hidden": "true" }, h("span", { class: "rate-range" }), h("span", { class: "rate-value" }));
  bar.children[0].style.left = `${100 * rate.low}%`;
  bar.children[0].style.width = `${100 * (rate.high - rate.low)}%`;
  bar.children[1].style.left = `${100 * rate.rate}%`;
  return { sort: rate.rate, node: h("span", { class: "rate" }, h("span", { title: text }, percent(rate.rate)), h("span", { class: "hint" }, ` ${percent(rate.low)} to ${percent(rate.high)}`), bar) };
}
