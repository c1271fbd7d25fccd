// A job as one row of a list.

import { h } from "../dom.js";
import { ago, moment } from "../format.js";
import { STATES, kindTitle } from "../words.js";

export const stateBadge = (state) => h("span", { class: `badge state-${state}` }, STATES[state] ?? state);

export function progressBar(job) {
  const { done, total } = job.progress ?? {};
  return total ? h("progress", { max: total, value: Math.min(done, total), "aria-label": "Progress" }) : h("progress", { "aria-label": "Progress" });
}

export function jobRow(job, ...actions) {
  const row = h("li", { class: "row", data: { job: job.id, state: job.state } },
    h("a", { href: `#/jobs/${job.id}`, class: "row-main" }, h("strong", {}, kindTitle(job.kind)), " ", stateBadge(job.state),
      h("time", { dateTime: job.created_at, title: moment(job.created_at) }, ago(job.created_at))),
    h("progress", { "aria-label": "Progress" }), h("span", { class: "row-word" }), actions.length ? h("span", { class: "row-actions" }, actions) : null);
  updateRow(row, job);
  return row;
}

// Changes what changes while a job runs, and leaves the rest as it is: a button that somebody is
// about to press must not be replaced.
export function updateRow(row, job) {
  const live = ["running", "cancelling"].includes(job.state);
  const [bar, word] = [row.querySelector("progress"), row.querySelector(".row-word")];
  const { done, total } = job.progress ?? {};
  bar.hidden = !live;
  if (total) (bar.max = total), (bar.value = Math.min(done, total));
  word.textContent = job.problem?.detail ?? job.problem?.title ?? (live ? (job.progress?.message ?? "") : "");
  word.hidden = !word.textContent;
  row.querySelector("time").textContent = ago(job.created_at);
}
