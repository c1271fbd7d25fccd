// Addresses after the #: each view has its own, so that reload and the back button work.

import { h } from "./dom.js";
import { announce, problemBox } from "./shell.js";

const routes = []; // [pattern, names, view]
let current = new AbortController();

export function route(path, load) {
  const names = [];
  const pattern = path.replace(/:(\w+)/g, (_, name) => (names.push(name), "([^/]+)"));
  routes.push([new RegExp(`^${pattern}$`), names, load]);
}

export function go(path) {
  location.hash = path;
}

function here() {
  const [path, query] = (location.hash.slice(1) || "/").split("?");
  return { path, query: new URLSearchParams(query) };
}

function match(path) {
  for (const [pattern, names, load] of routes) {
    const found = pattern.exec(path);
    if (!found) continue;
    try {
      return [load, Object.fromEntries(names.map((name, index) => [name, decodeURIComponent(found[index + 1])]))];
    } catch {
      return [null, {}]; // half an escape
    }
  }
  return [null, {}];
}

let first = true;
export async function render() {
  current.abort();
  current = new AbortController();
  const { signal } = current;
  const { path, query } = here();
  const main = document.getElementById("main");
  const [load, params] = match(path);
  for (const link of document.querySelectorAll("nav a")) {
    const target = link.getAttribute("href").slice(1);
    if (path === target || path.startsWith(`${target}/`)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const outlet = h("div", { class: "view", "aria-busy": "true" });
  main.replaceChildren(outlet);
  try {
    if (!load) {
      outlet.append(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "To the start")));
    } else {
      const view = await load();
      if (signal.aborted) return;
      await view.show(outlet, { params, query, signal });
    }
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!outlet.querySelector("h1")) outlet.prepend(h("h1", {}, "This did not work"));
    outlet.append(problemBox(error, h("p", {}, h("button", { type: "button", onclick: render }, "Try again"))));
  }
  if (signal.aborted) return;
  outlet.removeAttribute("aria-busy");
  const title = outlet.querySelector("h1");
  document.title = title ? `${title.textContent} · Bauta` : "Bauta";
  if (!first && title && !outlet.contains(document.activeElement)) {
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
    scrollTo(0, 0);
    announce(title.textContent);
  }
  first = false;
}

export function start() {
  window.addEventListener("hashchange", render);
  return render();
}
