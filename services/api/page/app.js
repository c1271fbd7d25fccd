// The console. Everything it does, it does through the public API.

import { route, start } from "./router.js";
import { prepare } from "./shell.js";

route("/", () => import("./views/start.js"));
route("/new", () => import("./views/choose.js"));
route("/new/:kind", () => import("./views/new.js"));
route("/jobs", () => import("./views/history.js"));
route("/jobs/:id", () => import("./views/job.js"));
route("/models", () => import("./views/models.js"));
route("/models/:id", () => import("./views/model.js"));
route("/datasets", () => import("./views/datasets.js"));
route("/datasets/:id", () => import("./views/dataset.js"));
route("/live", () => import("./views/live.js"));
route("/service", () => import("./views/service.js"));

prepare();
// The link that skips the navigation must not be taken for an address of the page.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
start();
