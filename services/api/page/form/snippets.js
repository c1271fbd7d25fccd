// The very request, for a shell, for Python, and as JSON.

import { h } from "../dom.js";
import { announce } from "../shell.js";
import { isHandle } from "../widgets/photos.js";

const shell = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;
const inPython = (value, indent = "    ") =>
  JSON.stringify(value, null, 4).replace(/\btrue\b/g, "True").replace(/\bfalse\b/g, "False").replace(/\bnull\b/g, "None").replaceAll("\n", `\n${indent}`);

function replaced(value, names) {
  if (isHandle(value)) return names.get(value) ?? value;
  if (Array.isArray(value)) return value.map((one) => replaced(one, names));
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, replaced(one, names)]));
  return value;
}

// `photos`: those that are files of this device still; the requests send them by their names.
function request({ url, spec, photos, file, origin }) {
  const main = (spec.images ?? []).filter(isHandle);
  const local = photos.filter((photo) => !photo.id);
  const inOneCall = local.every((photo) => main.includes(photo.handle));
  if (file) {
    const fields = Object.entries(spec).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
    return {
      curl: [`curl ${origin}${url}`, `-F file=@${shell(file)}`, ...fields.map(([name, value]) => `-F ${shell(`${name}=${value}`)}`)].join(" \\\n     "),
      python: `import httpx\n\nwith open(${JSON.stringify(file)}, "rb") as file:\n    job = httpx.post(\n        "${origin}${url}",\n        files={"file": file},\n        data=${inPython(Object.fromEntries(fields), "        ")},\n        timeout=600,\n    ).json()\nprint(job["url"])`,
      json: JSON.stringify(spec, null, 2),
    };
  }
  if (!local.length) {
    const json = JSON.stringify(spec, null, 2);
    return {
      curl: `curl ${origin}${url} -H 'Content-Type: application/json' \\\n     -d ${shell(JSON.stringify(spec))}`,
      python: `import httpx\n\njob = httpx.post(\n    "${origin}${url}",\n    json=${inPython(spec)},\n).json()\nprint(job["url"])`,
      json,
    };
  }
  if (inOneCall) {
    const rest = { ...spec, images: (spec.images ?? []).filter((one) => !isHandle(one)) };
    if (!rest.images.length) delete rest.images;
    const body = JSON.stringify(rest);
    return {
      curl: [`curl ${origin}${url}`, ...local.map((photo) => `-F image=@${shell(photo.name)}`), ...(body === "{}" ? [] : [`-F ${shell(`spec=${body}`)}`])].join(" \\\n     "),
      python: `import json\n\nimport httpx\n\nnames = ${inPython(local.map((photo) => photo.name), "")}\njob = httpx.post(\n    "${origin}${url}",\n    files=[("image", open(name, "rb")) for name in names],\n    data={"spec": json.dumps(${inPython(rest)})},\n    timeout=600,\n).json()\nprint(job["url"])`,
      json: JSON.stringify(rest, null, 2),
    };
  }
  const names = new Map(local.map((photo, index) => [photo.handle, `IMAGE_${index + 1}`]));
  const put = replaced(spec, names);
  const upload = local.map((photo) => `${names.get(photo.handle)}=$(curl -s --data-binary @${shell(photo.name)} -H ${shell(`Content-Type: ${photo.file.type || "image/jpeg"}`)} ${origin}/v1/images | jq -r .id)`);
  const body = shell(JSON.stringify(put)).replace(/IMAGE_\d+/g, (name) => `'"$${name}"'`);
  return {
    curl: [...upload, `curl ${origin}${url} -H 'Content-Type: application/json' \\\n     -d ${body}`].join("\n"),
    python: `import httpx\n\n\ndef upload(name):\n    with open(name, "rb") as photo:\n        answer = httpx.post("${origin}/v1/images", content=photo.read(), headers={"Content-Type": "image/jpeg"})\n    return answer.json()["id"]\n\n\n${local.map((photo) => `${names.get(photo.handle)} = upload(${JSON.stringify(photo.name)})`).join("\n")}\njob = httpx.post(\n    "${origin}${url}",\n    json=${inPython(put).replace(/"(IMAGE_\d+)"/g, "$1")},\n).json()\nprint(job["url"])`,
    json: JSON.stringify(put, null, 2),
  };
}

export function snippets(describe) {
  const code = h("pre", { class: "code", tabIndex: 0, "aria-label": "The request" });
  const ways = [["curl", "curl"], ["python", "Python"], ["json", "JSON"]];
  let way = "curl";
  const draw = () => {
    code.textContent = request({ origin: location.origin, photos: [], ...describe() })[way];
    tabs.forEach((tab) => tab.setAttribute("aria-pressed", String(tab.dataset.way === way)));
  };
  const tabs = ways.map(([id, words]) => h("button", { type: "button", data: { way: id }, onclick: () => ((way = id), draw()) }, words));
  const said = h("span", { class: "hint", role: "status" });
  const copy = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(code);
      said.textContent = "Selected: press Ctrl+C.";
    }
    announce(said.textContent);
  } }, "Copy");
  const box = h("details", { class: "snippets", ontoggle: draw }, h("summary", {}, "Show as curl, Python, JSON"),
    h("p", { class: "actions" }, tabs, copy, said), code,
    h("p", { class: "hint" }, "With an API key, add the header ", h("code", {}, "Authorization: Bearer …"), "."));
  return { element: box, draw: () => box.open && draw() };
}
