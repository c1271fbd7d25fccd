// The live camera: who wears a mask, and what an attack of one step does to the answer.

import { ProblemError, call } from "../api.js";
import { h } from "../dom.js";
import { figure, percent } from "../format.js";
import { CameraError, grab, openCamera } from "../live/camera.js";
import { Pump } from "../live/pump.js";
import { announce, inWords, problemBox } from "../shell.js";
import { labelWords } from "../words.js";

const WIDTH = 320;
const COLORS = { with_mask: "#17663a", without_mask: "#a31d1d" };

async function ask(kind, spec, frame, signal, options = {}) {
  const form = new FormData();
  form.append("spec", JSON.stringify(spec));
  form.append("image", frame.blob, "frame.jpg");
  return call(`/v1/jobs/${kind}?keep=false`, { method: "POST", body: form, signal, headers: { Prefer: `wait=${kind === "classify" ? 3 : 10}`, ...options } });
}

const classify = async (frame, signal) => (await (await ask("classify", { annotate: false }, frame, signal)).json()).result;

// The picture that an attack of one step is reported by: each face before, after, and the change.
async function attack(frame, signal) {
  const spec = { attack: { name: "fgsm", eps: 8 } };
  try {
    return await (await ask("attack", spec, frame, signal, { Accept: "image/*" })).blob();
  } catch (error) {
    if (error instanceof ProblemError && [406, 422].includes(error.status)) return null; // no face
    throw error;
  }
}

const MODES = {
  mask: { words: "Who wears a mask", places: 3 },
  attack: { words: "Attack the classifier (one step)", places: 2, beside: attack },
};

export async function show(outlet, { signal }) {
  const canvas = h("canvas", { width: 640, height: 480, role: "img", "aria-label": "The camera's picture with boxes" });
  const attacked = h("img", { alt: "", hidden: true });
  const attackWord = h("p", { class: "hint" }, "The faces as the classifier sees them: before, after one step of at most 8 of 255 levels, and the change itself.");
  const stage = h("div", { class: "live-stage" }, canvas);
  const other = h("div", { class: "live-attack", hidden: true }, attacked, attackWord);
  const word = h("p", { class: "lead", "aria-live": "off" });
  const meters = ["Pictures a second", "Frame to picture (median)", "95 % within", "Frames passed over"].map((name) => {
    const value = h("dd", {}, "–");
    return { value, element: h("div", {}, h("dt", {}, name), value) };
  });
  const problems = h("div", {});
  const start = h("button", { type: "button", class: "primary" }, "Start the camera");
  const stop = h("button", { type: "button", hidden: true }, "Stop");
  const mode = h("select", { id: "live-mode" }, Object.entries(MODES).map(([id, { words }]) => new Option(words, id)));
  outlet.append(h("h1", {}, "Live camera"),
    h("p", {}, "Each picture is sent to this service, answered, and forgotten: neither the picture nor its job is kept after the answer."),
    h("p", { class: "actions" }, h("label", { for: "live-mode" }, "Show"), mode, start, stop), problems, h("div", { class: "live-pair" }, stage, other), word,
    h("dl", { class: "meters", "aria-label": "Speed" }, meters.map((meter) => meter.element)));

  let running = null;
  const end = () => {
    running?.abort();
    running = null;
    start.hidden = false;
    stop.hidden = true;
  };
  stop.addEventListener("click", () => (end(), start.focus(), announce("The camera is off.")));
  mode.addEventListener("change", () => {
    if (running) begin();
  });
  start.addEventListener("click", begin);
  signal.addEventListener("abort", end, { once: true });

  async function begin() {
    end();
    problems.replaceChildren();
    running = new AbortController();
    const own = running.signal;
    start.hidden = true;
    stop.hidden = false;
    const chosen = MODES[mode.value];
    other.hidden = !chosen.beside;
    let camera;
    try {
      camera = await openCamera(own);
    } catch (error) {
      if (error.name === "AbortError") return;
      end();
      problems.append(problemBox(error instanceof CameraError ? error : new CameraError(inWords(error))));
      return;
    }
    announce("The camera is on.");
    const pump = new Pump({
      signal: own, inFlight: chosen.places, grab: () => grab(camera.video, WIDTH), ask: (frame) => classify(frame, own), show: draw, onerror,
    });
    const beside = chosen.beside && new Pump({ signal: own, inFlight: 1, grab: () => grab(camera.video, WIDTH), ask: (frame) => chosen.beside(frame, own), show: drawBeside, onerror });
    const tick = () => {
      if (own.aborted) return;
      pump.tick();
      beside?.tick();
      if (camera.video.requestVideoFrameCallback) camera.video.requestVideoFrameCallback(tick);
      else requestAnimationFrame(tick);
    };
    tick();
    const timer = setInterval(() => {
      const now = pump.figures();
      const ms = (value) => (value === null ? "–" : `${figure(value, 0)} ms`);
      [figure(now.perSecond, 1), ms(now.median), ms(now.p95), figure(now.dropped, 0)].forEach((text, index) => (meters[index].value.textContent = text));
      if (now.perSecond) problems.replaceChildren();
    }, 500);
    own.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  let said = "";
  function onerror(error, times) {
    if (times >= 3) problems.replaceChildren(problemBox(error));
  }

  function drawBeside(frame, picture) {
    attacked.hidden = !picture;
    if (!picture) return;
    if (attacked.src) URL.revokeObjectURL(attacked.src);
    attacked.src = URL.createObjectURL(picture);
    attacked.alt = "Each face before and after the attack, and the change";
  }

  async function draw(frame, plain) {
    paint(canvas, plain, frame);
    const counts = Object.entries(plain.counts).filter(([, n]) => n).map(([label, n]) => `${n} × ${labelWords(label)}`).join(", ") || "No face";
    word.textContent = counts;
    if (counts !== said) announce(counts);
    said = counts;
  }
}

function paint(canvas, result, { picture, width, height }) {
  const scale = 640 / width;
  if (canvas.height !== Math.round(height * scale)) {
    canvas.height = Math.round(height * scale);
    canvas.parentElement.style.aspectRatio = `${width} / ${height}`;
  }
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  context.font = "600 20px system-ui, sans-serif";
  context.lineWidth = 4;
  for (const { box, label, probabilities } of result.images[0].faces) {
    const color = COLORS[label] ?? "#7a4d00";
    const [x, y] = [box.x * scale, box.y * scale];
    context.strokeStyle = color;
    context.strokeRect(x, y, box.width * scale, box.height * scale);
    const words = `${labelWords(label)} ${percent(probabilities[label], 0)}`;
    context.fillStyle = color;
    const top = y < 28 ? y + box.height * scale + 2 : y - 28;
    context.fillRect(x - 2, top, context.measureText(words).width + 14, 26);
    context.fillStyle = "#fff";
    context.fillText(words, x + 5, top + 20);
  }
}
