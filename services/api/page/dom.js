// Builds elements. Text stays text: nothing here, or anywhere on this page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "class") node.setAttribute("class", value);
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name in node && !name.includes("-") && !(node instanceof SVGElement) && name !== "list") node[name] = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

let last = 0;
export const freshId = (stem) => `${stem}-${++last}`;

// Descriptions mark names with backticks.
export function prose(text) {
  return (text.charAt(0).toUpperCase() + text.slice(1)).split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

export const details = (summary, properties, ...children) =>
  h("details", properties, h("summary", {}, summary), ...children);
