// How good classifiers are, with intervals; all tables sort.

import { details, h } from "../dom.js";
import { figure, percent } from "../format.js";
import { rateCell, table } from "../widgets/table.js";
import { choiceWords, labelWords } from "../words.js";
import { curve } from "../widgets/curve.js";
import { figureOf, whenNear } from "./pictures.js";

const interval = (one) => (one?.value === null || one?.value === undefined ? "–" : { text: `${figure(one.value)} (${figure(one.low)} to ${figure(one.high)})`, sort: one.value });
const rate = (one) => rateCell(one, percent);

export async function show(place, { job, result, signal }) {
  const shown = (name, words) => name && near(name, words);
  const near = (name, words) => {
    const frame = h("div", { class: "picture-frame" });
    place.append(frame);
    whenNear(frame, async () => frame.append(await figureOf(job, name, words, signal)), signal);
  };
  if (result.reports.length) {
    place.append(h("h2", {}, "On clean pictures"), table({
      caption: "Each classifier on clean pictures, with 95 % intervals", columns: ["Model", "Pictures", "Accuracy", "Macro F1", "ROC area", "Calibration error"],
      rows: result.reports.map((one) => [one.model, { text: figure(one.images), sort: one.images }, rate(one.accuracy), interval(one.macro_f1), interval(one.roc_area), interval(one.calibration_error)]),
    }));
    for (const report of result.reports) {
      place.append(details(`${report.model}: by class`, {}, table({ caption: `${report.model}, by class`, columns: ["Class", "Pictures", "Recall", "Precision"], rows: Object.keys(report.recall).map((name) => [labelWords(name), { text: figure(report.counts[name]), sort: report.counts[name] }, rate(report.recall[name]), rate(report.precision[name])]) })));
      shown(report.picture, `${report.model}: confusion, curves, reliability`);
      shown(report.errors, `${report.model}: the most confident errors`);
    }
  }
  if (result.rows.length) place.append(h("h2", {}, "Under attack"), table({
    caption: "Each classifier, defense and attack, with 95 % intervals", columns: ["Model", "Defense", "Attack", "Right without an attack", "Attack succeeds", "Right under attack", "Queries (median)", "Milliseconds a picture"],
    rows: result.rows.map((one) => [one.model, choiceWords(one.defense), choiceWords(one.attack), rate(one.clean_accuracy), rate(one.adaptive_success), rate(one.robust_accuracy), { text: figure(one.median_queries), sort: one.median_queries }, { text: figure(one.cost_ms, 1), sort: one.cost_ms }]),
  }));
  if (result.detectors.length) place.append(h("h2", {}, "Detecting attacks"), table({
    caption: "Detector of attacked pictures", columns: ["Model", "Attack", "Detected", "False alarms", "Fooled unseen", "ROC area"],
    rows: result.detectors.map((one) => [one.model, choiceWords(one.attack), rate(one.detected), rate(one.false_positives), rate(one.fooled_undetected), interval(one.roc_area)]),
  }));
  if (result.rounds.length) {
    const plot = curve({ title: "Accuracy by round", xWords: "round", series: [{ name: "clean", words: "clean" }, { name: "robust", words: "under attack" }] });
    place.append(h("h2", {}, "Attack and defense by turns"), plot.element);
    for (const one of result.rounds) plot.add(one.round, { clean: one.clean.rate, robust: one.robust.rate });
  }
  shown(result.sweep, "Accuracy against the setting that was varied");
  shown(result.detection, "The detector's ROC curves");
}
