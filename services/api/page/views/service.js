// What runs and waits, and the workers at it.

import { ProblemError, getJson, pause } from "../api.js";
import { h } from "../dom.js";
import { ago, figure, seconds } from "../format.js";
import { table } from "../widgets/table.js";
import { STATES, kindTitle } from "../words.js";

export async function show(outlet, { signal }) {
  const place = h("div", {});
  outlet.append(h("h1", {}, "Service"), place);
  let before = "";
  const draw = async () => {
    const status = await getJson("/v1/service", { signal });
    const text = JSON.stringify(status, (name, value) => (["oldest_seconds", "seen_at"].includes(name) ? undefined : value));
    if (text === before && Date.now() - drawn < 10_000) return;
    before = text;
    drawn = Date.now();
    const hour = status.ended.reduce((sum, one) => sum + one.jobs, 0);
    const live = status.live.reduce((sum, one) => sum + one.jobs, 0);
    place.replaceChildren(
      h("p", { class: "lead" }, `${live ? `${figure(live)} jobs wait or run` : "Nothing waits or runs"}; ${figure(hour)} ended in the last hour.`),
      table({ caption: "What waits and runs", columns: ["Kind", "Queue", "State", "Jobs", "The oldest since"], rows: status.live.map((one) => [kindTitle(one.kind), one.queue, STATES[one.state], one.jobs, { text: seconds(one.oldest_seconds), sort: one.oldest_seconds }]) }),
      table({ caption: "Ended in the last hour", columns: ["Kind", "State", "Jobs"], rows: status.ended.map((one) => [kindTitle(one.kind), STATES[one.state], one.jobs]) }),
      table({ caption: "Workers that had a job in the last hour", columns: ["Worker", "Device", "At work on", "Jobs ended", "Seen"], rows: status.workers.map((one) => [one.name, one.device ?? "–", one.job ? { sort: one.kind, node: h("a", { href: `#/jobs/${one.job}` }, kindTitle(one.kind)) } : "nothing", one.jobs, { text: ago(one.seen_at), sort: one.seen_at }]) }));
  };
  let drawn = 0;
  try {
    await draw();
  } catch (error) {
    if (!(error instanceof ProblemError) || error.status !== 403) throw error;
    place.append(h("p", { class: "note" }, "This service has API keys. Its state as a whole is not open to the keys of single users."));
    return;
  }
  (async () => {
    while (!signal.aborted) {
      await pause(2000, signal);
      if (!signal.aborted && !document.hidden) await draw().catch(() => {});
    }
  })();
}
