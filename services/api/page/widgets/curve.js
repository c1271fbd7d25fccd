// Curves as SVG, redrawn as points arrive; with a table of the same figures for who cannot see them.

import { h, svg } from "../dom.js";
import { figure } from "../format.js";

const [W, H, LEFT, RIGHT, TOP, BOTTOM] = [480, 220, 44, 10, 12, 30];

export function curve({ title, xWords = "epoch", series }) {
  const points = new Map(series.map((one) => [one.name, []]));
  const plot = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", class: "curve" });
  const legend = h("ul", { class: "legend" }, series.map((one, index) => h("li", { class: `series-${index}` }, one.words)));
  const tableBody = h("tbody", {});
  const element = h("figure", { class: "curve-figure", hidden: true }, h("figcaption", {}, title), plot, legend,
    h("details", {}, h("summary", {}, "As a table"), h("div", { class: "table-frame", tabIndex: 0, role: "group", "aria-label": `${title}, as a table` },
      h("table", {}, h("thead", {}, h("tr", {}, [xWords, ...series.map((one) => one.words)].map((name) => h("th", { scope: "col" }, name)))), tableBody))));
  function draw() {
    const all = [...points.values()].flat();
    element.hidden = all.length === 0;
    if (!all.length) return;
    const xs = all.map(([x]) => x);
    const ys = all.map(([, y]) => y);
    series.forEach((one, index) => (legend.children[index].hidden = !points.get(one.name).length));
    let [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    if (x0 === x1) x1 = x0 + 1;
    if (y0 === y1) (y0 -= 0.5), (y1 += 0.5);
    const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
    const py = (y) => H - BOTTOM - ((y - y0) / (y1 - y0)) * (H - TOP - BOTTOM);
    const ticks = [0, 0.5, 1].map((share) => y0 + share * (y1 - y0));
    const steps = [x0, Math.round((x0 + x1) / 2), x1].filter((x, index, them) => them.indexOf(x) === index);
    plot.setAttribute("aria-label", `${title}: ${series.filter((one) => points.get(one.name).length).map((one) => `${one.words} ${figure(points.get(one.name).at(-1)?.[1])}`).join(", ")} at the last ${xWords}`);
    plot.replaceChildren(
      ...ticks.flatMap((y) => [svg("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: py(y), y2: py(y) }), svg("text", { x: LEFT - 6, y: py(y) + 4, "text-anchor": "end" }, figure(y))]),
      ...steps.map((x) => svg("text", { x: px(x), y: H - 10, "text-anchor": x === x0 ? "start" : x === x1 ? "end" : "middle" }, x === x0 ? `${xWords} ${figure(x)}` : figure(x))),
      ...series.flatMap((one, index) => {
        const line = points.get(one.name);
        return [svg("polyline", { class: `series-${index}`, points: line.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ") }),
          ...(line.length < 40 ? line.map(([x, y]) => svg("circle", { class: `series-${index}`, cx: px(x), cy: py(y), r: 2.5 })) : [])];
      }));
    const rows = [...new Set(xs)].sort((a, b) => a - b);
    tableBody.replaceChildren(...rows.map((x) => h("tr", {}, h("th", { scope: "row" }, figure(x)), series.map((one) => h("td", {}, figure(points.get(one.name).find(([at]) => at === x)?.[1]))))));
  }
  let waiting = false;
  return {
    element,
    add(x, values) {
      for (const one of series) {
        const y = values[one.name];
        if (typeof y !== "number" || !Number.isFinite(y)) continue;
        const line = points.get(one.name);
        const at = line.findIndex(([before]) => before === x);
        if (at < 0) line.push([x, y]);
        else line[at][1] = y;
      }
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => ((waiting = false), draw()));
    },
  };
}
