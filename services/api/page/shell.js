// What all views share: messages to the person, the key dialog, problems in words.

import { h } from "./dom.js";
import { ProblemError, configure, storeKey, storedKey } from "./api.js";

const element = (id) => document.getElementById(id);

// Tells those who listen as well as those who look. Twice the same text would not be read.
let said = "";
export function announce(text) {
  if (text === said) return;
  said = text;
  element("live").textContent = text;
}

let asking = null;
export function askForKey(used, problem) {
  if (storedKey() !== used) return Promise.resolve(true); // another call has a new one already
  asking ??= openKeyDialog(
    used ? problem?.detail || "This key is no longer accepted." : "This service asks for an API key.",
  ).finally(() => (asking = null));
  return asking;
}

export function openKeyDialog(why) {
  const dialog = element("key-dialog");
  element("key-why").textContent = why;
  element("key").value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    const done = (answer) => {
      dialog.removeEventListener("close", closed);
      resolve(answer);
    };
    const closed = () => {
      const key = element("key").value.trim();
      element("key").value = "";
      if (dialog.returnValue === "use" && key) {
        storeKey(key);
        announce("The key is set.");
        done(true);
      } else done(false);
    };
    dialog.returnValue = "";
    dialog.addEventListener("close", closed);
  });
}

export function prepare() {
  configure({
    askForKey,
    notice: (reachable) => {
      const banner = element("offline");
      if (banner.hidden === reachable) return;
      banner.hidden = reachable;
      banner.textContent = reachable ? "" : "The service cannot be reached. Trying again…";
    },
  });
  element("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    element("key-dialog").close("use");
  });
  element("key-cancel").addEventListener("click", () => element("key-dialog").close(""));
  element("change-key").addEventListener("click", async () => {
    const why = storedKey() ? "A key is set. Enter another to change it." : "Without a key, only a service on this machine answers.";
    if (await openKeyDialog(why)) window.dispatchEvent(new Event("hashchange"));
  });
}

export function inWords(error) {
  if (error instanceof ProblemError) {
    const { title, detail } = error.problem;
    return detail && detail !== title ? `${title}. ${detail}` : title;
  }
  if (error instanceof TypeError && /fetch|network|connection/i.test(error.message)) {
    return "The service cannot be reached. Nothing you entered is lost: try again.";
  }
  return error.message || String(error);
}

export function problemBox(error, ...actions) {
  const rest = (error.errors ?? []).map((one) => h("li", {}, h("code", {}, one.pointer || "/"), ` ${one.detail}`));
  return h("div", { class: "problem", role: "alert" }, h("p", {}, inWords(error)), rest.length ? h("ul", {}, rest) : null, ...actions);
}

// Runs what a button does: the button waits, and what goes wrong is said beside it.
export function button(label, action, properties = {}) {
  const place = h("span", { class: "said", role: "alert" });
  const node = h("button", { type: "button", ...properties }, label);
  node.addEventListener("click", async () => {
    node.disabled = true;
    place.textContent = "";
    try {
      await action(node);
    } catch (error) {
      if (error.name !== "AbortError") place.textContent = inWords(error);
    } finally {
      node.disabled = false;
    }
  });
  return h("span", { class: "button-with-word" }, node, place);
}

export function confirmed(title, text, yes) {
  const dialog = h("dialog", { class: "ask", "aria-label": title },
    h("form", { method: "dialog" }, h("h2", {}, title), h("p", {}, text),
      h("p", { class: "actions" }, h("button", { class: "danger", value: "yes" }, yes), h("button", { value: "", autofocus: true }, "Keep it"))));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes");
  }));
}
