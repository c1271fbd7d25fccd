// A verdict as a badge and a sentence.

import { h } from "../dom.js";
import { VERDICTS } from "../words.js";

export function verdictBadge(verdict) {
  const [words, tone] = VERDICTS[verdict] ?? [verdict, "fair"];
  return h("span", { class: `badge tone-${tone}` }, words);
}

export const verdictSentence = (verdict) => VERDICTS[verdict]?.[2] ?? "";

export function verdictList(counts) {
  return h("ul", { class: "verdicts" }, Object.entries(counts).filter(([, n]) => n).map(([verdict, n]) => h("li", {}, verdictBadge(verdict), h("strong", {}, ` × ${n} `), h("span", {}, verdictSentence(verdict)))));
}
