// All jobs of the key, newest first, live by one event stream.

import { call, follow, getJson } from "../api.js";
import { h } from "../dom.js";
import { plural } from "../format.js";
import { announce, button, confirmed } from "../shell.js";
import { STATES, isLive, kindTitle } from "../words.js";
import { deleteJob } from "./deleting.js";
import { jobRow, updateRow } from "./rows.js";

const PAGE = 50;
const MOMENT_MS = 700;

export async function show(outlet, { query, signal }) {
  const jobs = new Map();
  const list = h("ul", { class: "rows", "aria-label": "Jobs" });
  const none = h("p", { class: "hint" });
  const more = h("p", {});
  const operations = await getJson("/v1/operations", { signal });
  const kind = select("Kind", [["", "all kinds"], ...operations.map((one) => [one.kind, kindTitle(one.kind)])], query.get("kind"));
  const state = select("State", [["", "all states"], ...Object.entries(STATES)], query.get("state"));
  outlet.append(h("h1", {}, "History"), h("div", { class: "filters" }, kind.element, state.element), list, none, more);
  let next = null;

  const fits = (job) => (!kind.value || job.kind === kind.value) && (!state.value || job.state === state.value);
  const draw = () => {
    const shown = [...jobs.values()].filter(fits).sort((a, b) => (a.created_at < b.created_at ? 1 : a.created_at > b.created_at ? -1 : a.id < b.id ? 1 : -1));
    const kept = new Map([...list.children].map((row) => [row.dataset.job, row]));
    const rows = shown.map((job) => {
      const row = kept.get(job.id);
      if (row?.dataset.state !== job.state) return jobRow(job, ...actions(job));
      updateRow(row, job);
      return row;
    });
    const held = document.activeElement?.closest?.("[data-job]");
    const place = held && [held.dataset.job, [...held.querySelectorAll("a, button")].indexOf(document.activeElement)];
    // Moves nothing that is in its place already.
    rows.forEach((row, index) => row === list.children[index] || list.insertBefore(row, list.children[index] ?? null));
    while (list.children.length > rows.length) list.lastElementChild.remove();
    if (place && !list.contains(document.activeElement)) {
      const again = list.querySelector(`[data-job="${CSS.escape(place[0])}"]`)?.querySelectorAll("a, button");
      (again?.[place[1]] ?? again?.[0])?.focus({ preventScroll: true });
    }
    none.textContent = shown.length ? "" : "Nothing here yet.";
  };
  const actions = (job) => [
    isLive(job) && job.state !== "cancelling"
      ? button("Cancel", async () => {
        await call(`${job.url}/cancel`, { method: "POST" });
        announce("Canceling.");
      }, { "aria-label": `Cancel ${kindTitle(job.kind)} of ${new Date(job.created_at).toLocaleTimeString("en-US")}` })
      : null,
    button("Delete", async () => {
      if (!(await confirmed("Delete this job?", "Its photos and results go with it. This cannot be undone.", "Delete"))) return;
      const left = await deleteJob(job.id);
      jobs.delete(job.id);
      draw();
      announce(left ? `Deleted. ${plural(left, "photo")} stay: another job still needs them.` : "Deleted.");
    }, { "aria-label": `Delete ${kindTitle(job.kind)} of ${new Date(job.created_at).toLocaleTimeString("en-US")}` }),
  ];
  async function page(fresh) {
    const asked = new URLSearchParams({ page_size: PAGE });
    if (kind.value) asked.set("kind", kind.value);
    if (state.value) asked.set("state", state.value);
    if (!fresh && next) asked.set("page_token", next);
    const found = await getJson(`/v1/jobs?${asked}`, { signal });
    if (fresh) jobs.clear();
    for (const job of found.jobs) jobs.set(job.id, job);
    next = found.next_page_token;
    more.replaceChildren(...(next ? [button("Show older ones", () => page(false))] : []));
    draw();
  }
  for (const one of [kind, state]) one.onchange(() => {
    const asked = new URLSearchParams();
    if (kind.value) asked.set("kind", kind.value);
    if (state.value) asked.set("state", state.value);
    history.replaceState(null, "", `#/jobs${asked.size ? `?${asked}` : ""}`);
    return page(true);
  });
  await page(true);
  live();

  async function live() {
    let waiting = null;
    const young = new Map();
    const soon = () => (waiting ??= setTimeout(() => ((waiting = null), signal.aborted || draw()), 100));
    for await (const { kind: what, data } of follow("/v1/events", { signal })) {
      if (what === "deleted") {
        jobs.delete(data.id);
        young.delete(data.id);
      } else if (what === "job" && !jobs.has(data.id)) {
        // Frames of a camera are jobs that live for a moment: they are not worth a row.
        if (!young.has(data.id)) setTimeout(() => {
          if (young.has(data.id)) jobs.set(data.id, young.get(data.id));
          young.delete(data.id);
          soon();
        }, MOMENT_MS);
        young.set(data.id, data);
        continue;
      } else if (what === "job") {
        const before = jobs.get(data.id);
        if (before && before.state !== data.state && !isLive(data)) announce(`${kindTitle(data.kind)}: ${STATES[data.state]}.`);
        jobs.set(data.id, data);
      }
      soon();
    }
  }
}

function select(label, options, value) {
  const control = h("select", {}, options.map(([id, words]) => new Option(words, id)));
  control.value = value ?? "";
  if (control.selectedIndex < 0) control.selectedIndex = 0;
  return {
    element: h("label", {}, `${label} `, control),
    get value() { return control.value; },
    onchange: (listener) => control.addEventListener("change", listener),
  };
}
