// A model's card. Cards are written by whoever made the model: they are shown as text.

import { call, download, getJson } from "../api.js";
import { h } from "../dom.js";
import { figure, moment, size } from "../format.js";
import { go } from "../router.js";
import { button, confirmed } from "../shell.js";

const SKIP = ["url", "weights_url", "keep", "is_default", "source", "job", "size"];

export async function show(outlet, { params: { id }, signal }) {
  const url = `/v1/models/${encodeURIComponent(id)}`;
  const card = await getJson(url, { signal });
  outlet.append(h("h1", {}, card.id), h("p", { class: "lead" }, `${card.source === "yours" ? "Yours" : "Comes with Bauta"}${card.is_default ? ", the usual one for its task" : ""}; ${size(card.size)}${card.expires_at ? `, deleted by itself ${moment(card.expires_at)}` : ""}.`),
    h("p", { class: "actions" },
      button("Download the weights", () => download(card.weights_url, `${card.id}.safetensors`)),
      card.source === "yours" && !card.keep ? button("Keep it", async () => {
        await call(`${url}/keep`, { method: "PUT" });
        outlet.replaceChildren();
        await show(outlet, { params: { id }, signal });
      }) : null,
      card.source === "yours" ? button("Delete", async () => {
        if (!(await confirmed("Delete this model?", "Jobs can no longer name it.", "Delete"))) return;
        await call(url, { method: "DELETE" });
        go("/models");
      }) : null),
    facts(Object.fromEntries(Object.entries(card).filter(([name, value]) => !SKIP.includes(name) && value !== null))));
}

function facts(value) {
  return h("dl", { class: "card" }, Object.entries(value).map(([name, one]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, shown(one)))));
}

function shown(value) {
  if (Array.isArray(value)) return value.every((one) => typeof one !== "object" || one === null) ? value.slice(0, 200).join(", ") || "–" : value.slice(0, 200).map((one) => h("div", {}, shown(one)));
  if (value !== null && typeof value === "object") return Object.keys(value).length ? facts(value) : "–";
  return typeof value === "number" ? figure(value, 6) : value === true ? "yes" : value === false ? "no" : String(value ?? "–");
}
