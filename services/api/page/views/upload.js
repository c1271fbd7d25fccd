// Uploading a file of its own: a data set or a model, with its progress.

import { send } from "../api.js";
import { freshId, h } from "../dom.js";
import { size } from "../format.js";
import { SchemaForm } from "../form/schema-form.js";
import { snippets } from "../form/snippets.js";
import { getJson } from "../api.js";
import { go } from "../router.js";
import { problemBox } from "../shell.js";

export async function uploadForm(kind, { label, accept, hint, signal }) {
  const operation = await getJson(`/v1/operations/${kind}`, { signal });
  const id = freshId("upload");
  const file = h("input", { type: "file", id, accept, "aria-describedby": `${id}-hint ${id}-error` });
  const fileError = h("p", { class: "field-error", id: `${id}-error` });
  let code;
  const form = new SchemaForm(operation, { signal, onchange: () => code?.draw() });
  code = snippets(() => ({ url: operation.url, spec: form.value(), file: file.files[0]?.name ?? "file" }));
  file.addEventListener("change", () => code.draw());
  const bar = h("progress", { hidden: true, "aria-label": "Upload" });
  const said = h("p", { class: "said", role: "status" });
  const problems = h("div", {});
  const start = h("button", { class: "primary" }, "Upload");
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  const element = h("form", {}, h("div", { class: "field" }, h("label", { for: id }, label, h("span", { class: "needed" }, " (needed)")), file, h("p", { class: "hint", id: `${id}-hint` }, hint), fileError),
    form.element, problems, h("p", { class: "actions" }, start, stop, said), bar, code.element);
  element.noValidate = true;
  let sending = null;
  stop.addEventListener("click", () => sending?.abort());
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    problems.replaceChildren();
    fileError.textContent = said.textContent = "";
    form.clearErrors();
    if (!file.files.length) {
      fileError.textContent = "Choose a file.";
      file.focus();
      return;
    }
    sending = new AbortController();
    signal.addEventListener("abort", () => sending.abort(), { once: true });
    start.disabled = true;
    stop.hidden = bar.hidden = false;
    const body = new FormData();
    for (const [name, value] of Object.entries(form.value())) body.append(name, typeof value === "object" ? JSON.stringify(value) : value);
    body.append("file", file.files[0]);
    try {
      const job = await send(operation.url, body, { signal: sending.signal, onprogress: (done, total) => {
        bar.max = total;
        bar.value = done;
        said.textContent = done < total ? `Sent ${size(done)} of ${size(total)}.` : "Sent. The service is storing it…";
      } });
      go(`/jobs/${job.id}`);
    } catch (error) {
      if (signal.aborted) return;
      said.textContent = error.name === "AbortError" ? "Stopped. Nothing was stored." : "";
      if (error.name !== "AbortError") {
        problems.append(problemBox(error));
        const [own, rest] = [[], []];
        for (const one of error.errors ?? []) (one.pointer === "/file" ? own : rest).push(one);
        fileError.textContent = own.map((one) => one.detail).join(" ");
        form.showErrors(rest);
      }
    } finally {
      start.disabled = false;
      stop.hidden = bar.hidden = true;
    }
  });
  return element;
}
