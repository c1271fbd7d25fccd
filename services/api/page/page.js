const element = (id) => document.getElementById(id);
const FINAL = ["succeeded", "failed", "cancelled", "expired"];
let operations = [];
let photos = [];
let job = null;

class ProblemError extends Error {
  constructor(problem) {
    const errors = (problem.errors ?? []).map((e) => `${e.pointer}: ${e.detail}`);
    super([`${problem.title}. ${problem.detail}`, ...errors].join("\n"));
    this.status = problem.status;
  }
}

function headers(more = {}) {
  const key = sessionStorage.getItem("bauta-key");
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function call(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers(options.headers) });
  if (answer.ok) return answer;
  const isProblem = answer.headers.get("content-type")?.startsWith("application/problem+json");
  const problem = isProblem
    ? await answer.json()
    : { title: `The service answered ${answer.status}`, detail: "", status: answer.status };
  if (problem.status === 401) {
    sessionStorage.removeItem("bauta-key");
    element("key-form").hidden = false;
    element("key").focus();
  }
  throw new ProblemError(problem);
}

function say(text) {
  element("status").textContent = text;
}

function fail(error) {
  element("error").textContent = error instanceof ProblemError
    ? error.message
    : `The service cannot be reached. ${error.message}`;
  element("error").hidden = false;
  element("progress").hidden = true;
  element("start").disabled = false;
  element("cancel").hidden = true;
  say("");
}

async function guarded(action) {
  element("error").hidden = true;
  try {
    await action();
  } catch (error) {
    fail(error);
  }
}

async function loadOperations() {
  operations = await (await call("/v1/operations")).json();
  element("key-form").hidden = true;
  element("kind").replaceChildren(
    ...operations.map((operation) => new Option(operation.kind, operation.kind)),
  );
  if (operations.some((operation) => operation.kind === "classify")) {
    element("kind").value = "classify";
  }
  showKind();
}

function showKind() {
  const operation = operations.find((one) => one.kind === element("kind").value);
  if (!operation) return;
  element("summary").textContent = operation.summary;
  const hidden = ["kind", "images"];
  const defaults = Object.entries(operation.defaults).filter(([name]) => !hidden.includes(name));
  element("options").value = JSON.stringify(Object.fromEntries(defaults), null, 2);
}

function choose(files) {
  photos = [...files];
  element("chosen").replaceChildren(
    ...photos.map((file) => {
      const item = document.createElement("li");
      item.textContent = `${file.name} (${Math.ceil(file.size / 1024)} KB)`;
      return item;
    }),
  );
}

async function start() {
  element("result").hidden = true;
  let spec;
  try {
    spec = JSON.parse(element("options").value || "{}");
  } catch (error) {
    throw new ProblemError({ title: "The options are not JSON", detail: error.message });
  }
  const form = new FormData();
  form.append("spec", JSON.stringify(spec));
  for (const file of photos) form.append("image", file);
  element("start").disabled = true;
  element("progress").removeAttribute("value");
  element("progress").hidden = false;
  say("Sending…");
  const path = `/v1/jobs/${encodeURIComponent(element("kind").value)}`;
  job = await (await call(path, { method: "POST", body: form })).json();
  element("cancel").hidden = false;
  await follow();
  await show();
}

// EventSource cannot send a key, so the stream is read with fetch, and resumed by its last id.
async function follow() {
  let last = "0";
  for (;;) {
    let answer;
    try {
      answer = await call(job.events_url, { headers: { "Last-Event-ID": last } });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let buffer = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const blocks = (buffer + value).split("\n\n");
        buffer = blocks.pop();
        for (const block of blocks) {
          const event = Object.fromEntries(
            block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)),
          );
          if (!event.event) continue;
          last = event.id ?? last;
          tell(event.event, JSON.parse(event.data));
        }
      }
    } catch (error) {
      if (error instanceof ProblemError && error.status < 500 && error.status !== 429) throw error;
      say("Connection lost; trying again…");
    }
    const state = await call(job.url).then((found) => found.json()).catch((error) => {
      if (error instanceof ProblemError && error.status < 500) throw error;
      return job;
    });
    job = state;
    if (FINAL.includes(job.state)) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function tell(kind, data) {
  if (kind === "progress" && data.total) {
    element("progress").max = data.total;
    element("progress").value = data.done;
    say(data.message || `${data.done} of ${data.total}`);
  } else {
    say({ queued: "Waiting for a worker…", running: "At work…", cancelling: "Stopping…" }[kind] ?? kind);
  }
}

async function show() {
  element("progress").hidden = true;
  element("start").disabled = false;
  element("cancel").hidden = true;
  say(`The job has ${job.state}.`.replace("has cancelled", "was cancelled"));
  if (job.problem) throw new ProblemError(job.problem);
  const pictures = [];
  const files = [];
  for (const artifact of job.artifacts) {
    const bytes = await (await call(artifact.url)).blob();
    const url = URL.createObjectURL(bytes);
    if (artifact.media_type.startsWith("image/")) {
      const image = new Image();
      image.src = url;
      image.alt = `Result picture ${artifact.name}`;
      pictures.push(image);
    }
    const link = document.createElement("a");
    link.href = url;
    link.download = artifact.name;
    link.textContent = `${artifact.name} (${Math.ceil(artifact.size / 1024)} KB)`;
    const item = document.createElement("li");
    item.append(link);
    files.push(item);
  }
  element("pictures").replaceChildren(...pictures);
  element("files").replaceChildren(...files);
  element("json").textContent = JSON.stringify(job.result, null, 2);
  element("result").hidden = false;
}

async function remove() {
  await call(job.url, { method: "DELETE" });
  element("result").hidden = true;
  say("Deleted.");
}

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("bauta-key", element("key").value.trim());
  element("key").value = "";
  guarded(loadOperations);
});
element("job-form").addEventListener("submit", (event) => {
  event.preventDefault();
  guarded(start);
});
element("kind").addEventListener("change", showKind);
element("photos").addEventListener("change", (event) => choose(event.target.files));
element("cancel").addEventListener("click", () =>
  guarded(() => call(`${job.url}/cancel`, { method: "POST" })),
);
element("delete").addEventListener("click", () => guarded(remove));
const drop = element("drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") {
      element("photos").files = event.dataTransfer.files;
      choose(event.dataTransfer.files);
    }
  });
}
guarded(loadOperations);
