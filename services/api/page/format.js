// Numbers, times and sizes as people write them.

const number = (digits) => new Intl.NumberFormat("en-US", { maximumFractionDigits: digits });
export const count = (value) => number(0).format(value);
export const figure = (value, digits = 3) =>
  value === null || value === undefined ? "–" : typeof value === "number" ? number(digits).format(value) : String(value);
export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${number(digits).format(100 * value)} %`);
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB"];
  let step = 0;
  while (bytes >= 1000 && step < 3) (bytes /= 1000), step++;
  return `${number(bytes < 10 && step ? 1 : 0).format(bytes)} ${units[step]}`;
}

export function seconds(value) {
  if (value < 1) return `${number(2).format(value)} s`;
  if (value < 90) return `${number(1).format(value)} s`;
  if (value < 5400) return `${number(0).format(value / 60)} min`;
  if (value < 172800) return `${number(1).format(value / 3600)} h`;
  return `${number(0).format(value / 86400)} days`;
}

const relative = new Intl.RelativeTimeFormat("en-US", { numeric: "auto" });
export function ago(iso) {
  const past = (new Date(iso) - Date.now()) / 1000;
  const steps = [["day", 86400], ["hour", 3600], ["minute", 60]];
  for (const [unit, length] of steps) if (Math.abs(past) >= length) return relative.format(Math.round(past / length), unit);
  return Math.abs(past) < 5 ? "just now" : relative.format(Math.round(past), "second");
}
export const moment = (iso) => (iso ? new Date(iso).toLocaleString("en-US", { dateStyle: "medium", timeStyle: "short" }) : "never");

export const same = (a, b) => {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b || Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => name in b && same(a[name], b[name]));
};
