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
  const live = ["running", "cancelling"].includes(job.state);
  const word = job.problem?.detail ?? job.problem?.title ?? (live ? job.progress?.message : "");
  return h("li", { class: "row", data: { job: job.id } },
    h("a", { href: `#/jobs/${job.id}`, class: "row-main" }, h("strong", {}, kindTitle(job.kind)), " ", stateBadge(job.state),
      h("time", { dateTime: job.created_at, title: moment(job.created_at) }, ago(job.created_at))),
    live ? progressBar(job) : null, word ? h("span", { class: "row-word" }, word) : null, actions.length ? h("span", { class: "row-actions" }, actions) : null);
}
