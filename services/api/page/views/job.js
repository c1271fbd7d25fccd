// One job: how far it is, live, and what came of it.

import { ProblemError, call, follow, getJson } from "../api.js";
import { details, h, prose } from "../dom.js";
import { moment, plural, seconds } from "../format.js";
import { snippets } from "../form/snippets.js";
import { go } from "../router.js";
import { announce, button, confirmed, problemBox } from "../shell.js";
import { artifactList } from "../results/artifacts.js";
import { showResult } from "../results/index.js";
import { liveCurves } from "../results/live.js";
import { STATE_SENTENCES, isLive, kindTitle } from "../words.js";
import { deleteJob } from "./deleting.js";
import { progressBar, stateBadge } from "./rows.js";

const hasPhotos = (job) => JSON.stringify(job.spec ?? {}).includes('"img_');

export async function show(outlet, { params: { id }, signal }) {
  const url = `/v1/jobs/${encodeURIComponent(id)}`;
  let job = await getJson(url, { signal });
  const head = h("div", { class: "job-head" });
  const live = h("div", {});
  const body = h("div", {});
  outlet.append(h("h1", {}, kindTitle(job.kind)), head, live, body);
  const curves = liveCurves(job.kind);
  drawHead();
  if (!isLive(job)) return ended();
  live.append(curves.element);
  watch();

  function drawHead() {
    const rerun = job.spec && !job.kind.startsWith("import-") ? h("a", { class: "button", href: `#/new/${job.kind}?from=${job.id}` }, "Run again with changes") : null;
    const message = job.progress?.message;
    head.replaceChildren(
      h("p", { class: "state-line" }, stateBadge(job.state), " ", h("span", { id: "job-word" }, isLive(job) ? message || STATE_SENTENCES[job.state] : job.state === "succeeded" ? "" : STATE_SENTENCES[job.state])),
      isLive(job) ? progressBar(job) : "",
      h("p", { class: "actions" },
        isLive(job) && job.state !== "cancelling" ? button("Cancel", async () => {
          job = { ...job, ...(await (await call(`${url}/cancel`, { method: "POST" })).json()) };
          drawHead();
          announce("Canceling.");
        }) : null,
        rerun,
        button(hasPhotos(job) ? "Delete with its photos" : "Delete", async () => {
          if (!(await confirmed("Delete this job?", `Its ${hasPhotos(job) ? "photos and " : ""}results go with it. This cannot be undone.`, "Delete"))) return;
          const left = await deleteJob(job.id);
          announce(left ? `Deleted. ${plural(left, "photo")} stay: another job still needs them.` : "Deleted.");
          go("/jobs");
        })),
      facts());
  }

  function facts() {
    const ran = job.started_at && job.finished_at ? ` · took ${seconds((new Date(job.finished_at) - new Date(job.started_at)) / 1000)}` : "";
    return h("p", { class: "hint" }, `Started ${moment(job.created_at)}${ran} · deleted by itself ${moment(job.expires_at)}`, job.attempts > 1 ? ` · tried ${job.attempts} times` : "");
  }

  async function watch() {
    try {
      for await (const { kind, data } of follow(`${url}/events`, { signal, isOver: async () => !isLive(await refresh()) })) {
        if (kind === "progress") {
          job.progress = data;
          job.state = job.state === "queued" ? "running" : job.state;
          if (data.total) tellProgress(data);
        } else if (kind in STATE_SENTENCES) {
          job.state = kind;
          if (isLive(job)) announce(STATE_SENTENCES[kind]);
        }
        curves.add(kind, data);
        const bar = head.querySelector("progress");
        if (kind in STATE_SENTENCES || !bar) drawHead();
        else if (kind === "progress") {
          if (data.total) (bar.max = data.total), (bar.value = Math.min(data.done, data.total));
          head.querySelector("#job-word").textContent = data.message || STATE_SENTENCES[job.state];
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      const gone = error instanceof ProblemError && error.status === 404;
      body.replaceChildren(gone ? h("p", { class: "note" }, "This job was deleted.") : problemBox(error));
      if (gone) head.replaceChildren();
      return;
    }
    if (signal.aborted) return;
    job = await refresh();
    drawHead();
    live.replaceChildren(); // the result has its own curves
    await ended();
  }

  let told = 0;
  function tellProgress({ done, total }) {
    const tenth = Math.floor((10 * done) / total);
    if (tenth > told) announce(`${10 * tenth} percent done.`);
    told = Math.max(told, tenth);
  }

  async function refresh() {
    return getJson(url, { signal });
  }

  async function ended() {
    announce(`${kindTitle(job.kind)}: ${STATE_SENTENCES[job.state]}`);
    if (job.problem) body.append(problemBox(new ProblemError(job.problem)));
    if (job.result) {
      let { result } = job;
      if (result.result_artifact) result = await getJson(`${url}/artifacts/${result.result_artifact}`, { signal });
      for (const warning of result.warnings ?? []) body.append(h("p", { class: "note" }, prose(warning)));
      const place = h("div", { class: "result" });
      body.append(place);
      try {
        await showResult(place, { job, result, signal });
      } catch (error) {
        if (signal.aborted) return;
        place.append(problemBox(error));
      }
      body.append(artifactList(job, signal), details("All figures (JSON)", {}, h("pre", { class: "code", tabIndex: 0 }, JSON.stringify(result, null, 2))));
    }
    if (job.spec) {
      const { kind: _, ...spec } = job.spec;
      if (!job.kind.startsWith("import-")) {
        const code = snippets(() => ({ url: `/v1/jobs/${job.kind}`, spec }));
        body.append(code.element);
      }
    }
  }
}
