// The public API, and nothing else: calls, problems, keys, event streams, uploads.

const KEY = "bauta-key";
let askForKey = async () => false; // set by the shell; resolves to whether there is a new key
let notice = () => {}; // told whether the service can be reached

export class ProblemError extends Error {
  constructor(problem) {
    super(problem.detail || problem.title);
    this.problem = problem;
    this.status = problem.status;
    this.errors = problem.errors ?? [];
    this.slug = (problem.type ?? "").split("/").at(-1);
  }
}

export function configure(options) {
  askForKey = options.askForKey;
  notice = options.notice;
}

export const storedKey = () => sessionStorage.getItem(KEY);
export function storeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

export function headers(more = {}) {
  const key = storedKey();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

async function problemOf(answer) {
  if (answer.headers.get("content-type")?.startsWith("application/problem+json")) return answer.json();
  return { title: `The service answered ${answer.status}`, detail: "", status: answer.status };
}

// Returns the answer, or throws a ProblemError. A key that is missing or refused is asked for, and
// the call made again: what the person was doing goes on.
export async function call(path, options = {}) {
  for (;;) {
    const used = storedKey();
    let answer;
    try {
      answer = await fetch(path, { cache: "no-store", ...options, headers: headers(options.headers) });
    } catch (error) {
      if (error.name !== "AbortError") notice(false);
      throw error;
    }
    notice(true);
    if (answer.ok) return answer;
    const problem = await problemOf(answer);
    if (answer.status === 401 && (await askForKey(used, problem))) continue;
    throw new ProblemError(problem);
  }
}

export const getJson = async (path, options) => (await call(path, options)).json();

export const postJson = async (path, body, options = {}) =>
  (
    await call(path, {
      ...options,
      method: "POST",
      body: JSON.stringify(body),
      headers: { "Content-Type": "application/json", ...options.headers },
    })
  ).json();

// Sends a body with its progress, which fetch cannot tell. `body` may be a form or a file.
export async function send(path, body, { onprogress, signal, type, most = Infinity } = {}) {
  for (;;) {
    const used = storedKey();
    const { status, text, contentType } = await transfer(path, body, { onprogress, signal, type, most });
    if (status >= 200 && status < 300) return JSON.parse(text);
    let problem = { title: `The service answered ${status}`, detail: "", status };
    if (contentType?.startsWith("application/problem+json")) problem = JSON.parse(text);
    if (status === 401 && (await askForKey(used, problem))) continue;
    throw new ProblemError(problem);
  }
}

function transfer(path, body, { onprogress, signal, type }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    if (type) request.setRequestHeader("Content-Type", type);
    request.upload.onprogress = (event) => event.lengthComputable && onprogress?.(event.loaded, event.total);
    request.onload = () =>
      resolve({
        status: request.status,
        text: request.responseText,
        contentType: request.getResponseHeader("Content-Type"),
      });
    request.onerror = () => reject(new TypeError("The connection was lost."));
    request.onabort = () => reject(new DOMException("Stopped.", "AbortError"));
    signal?.addEventListener("abort", () => request.abort());
    if (signal?.aborted) request.abort();
    else request.send(body);
  });
}

export const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// Yields the events of a stream, and takes it up again where it broke. EventSource cannot send a
// key, so the stream is read with fetch. `isOver` says whether an ended stream has nothing more.
export async function* follow(path, { signal, isOver = async () => false }) {
  let last = "";
  let wait = 500;
  while (!signal.aborted) {
    try {
      const answer = await call(path, { signal, headers: last ? { "Last-Event-ID": last } : {} });
      for await (const event of parsed(answer.body)) {
        wait = 500;
        if (event.id) last = event.id;
        if (event.event) yield { kind: event.event, data: JSON.parse(event.data) };
      }
      if (await isOver()) return;
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ProblemError && error.status < 500 && error.status !== 429) throw error;
      if (!(error instanceof ProblemError)) notice(false);
    }
    await pause(wait, signal);
    wait = Math.min(wait * 2, 8000);
  }
}

async function* parsed(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      yield Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)));
    }
  }
}

// Bytes that need the key to be read, as an address for an element; given up with the view.
export async function blobUrl(path, signal) {
  const bytes = await (await call(path, { signal, cache: "default" })).blob();
  const url = URL.createObjectURL(bytes);
  signal?.addEventListener("abort", () => URL.revokeObjectURL(url), { once: true });
  return url;
}

export async function download(path, name) {
  const url = URL.createObjectURL(await (await call(path)).blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
