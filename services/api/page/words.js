// Plain words for what the API names shortly.

export const KINDS = {
  encrypt: {
    title: "Protect faces",
    short: "Change photos so that face recognition no longer matches them to you. People still see you.",
    photos: "Photos to protect",
    first: ["images", "preset", "mode", "faces"],
  },
  classify: {
    title: "Who wears a mask?",
    short: "Find the faces on photos and say who wears a face mask.",
    photos: "Photos to look at",
    first: ["images", "faces"],
  },
  attack: {
    title: "Fool the classifier",
    short: "Change each face a little until the mask classifier gets it wrong.",
    photos: "Photos to attack",
    first: ["images", "attack", "at", "faces"],
  },
  defend: {
    title: "Defend photos",
    short: "Clean photos of attacks, and see whether the classifier changes its answer.",
    photos: "Photos to defend",
    first: ["images", "defenses"],
  },
  "generate-mask": {
    title: "Design a mask",
    short: "Design a printable face mask that hides its wearer from face recognition.",
    photos: "Photos of the wearer",
    first: ["images", "dataset", "method", "designs"],
  },
  train: {
    title: "Train a classifier",
    short: "Teach a new mask classifier on your data sets.",
    first: ["datasets", "model_id", "preset", "robust"],
  },
  evaluate: {
    title: "Measure classifiers",
    short: "How often is a classifier right, on clean photos and under attack?",
    photos: "Labeled face photos",
    first: ["data", "images", "labels", "models", "attacks", "defenses"],
  },
  "import-dataset": { title: "Add a data set", short: "Bring labeled pictures or a short video.", first: ["name", "layout", "label"] },
  "import-model": { title: "Add a model", short: "Bring the weights of a classifier of yours.", first: ["id", "task", "architecture", "classes", "input_size"] },
};

export const kindTitle = (kind) => KINDS[kind]?.title ?? kind;

export const STATES = {
  queued: "Waiting",
  running: "At work",
  cancelling: "Stopping",
  succeeded: "Done",
  failed: "Failed",
  cancelled: "Canceled",
  expired: "Expired",
};
export const LIVE = ["queued", "running", "cancelling"];
export const isLive = (job) => LIVE.includes(job.state);

export const STATE_SENTENCES = {
  queued: "Waiting for a free worker.",
  running: "A worker is at it.",
  cancelling: "Stopping…",
  succeeded: "Done.",
  failed: "This did not work.",
  cancelled: "Canceled before it ended.",
  expired: "Its photos and results were deleted when their time was over.",
};

// What a verdict means, for somebody who decides whether to share the photo.
export const VERDICTS = {
  protected: ["Protected", "good", "A strong recognizer that the search never saw matches this face in at most 5 of 100 cases. That is a measured probability, no promise: recognizers change, and whoever trains one on such photos gets most of them back."],
  weak: ["Weakly protected", "fair", "Some recognizers no longer match this face, others do. Try the preset “high”, larger faces, or further photos of the person."],
  unprotected: ["Not protected", "bad", "Recognizers still match this face. Do not rely on this photo."],
  unverified: ["Not verified", "fair", "The photo was changed, but no recognizer that the search had not seen judged it."],
  "no-face": ["No face found", "fair", "No face was found, so nothing was changed. If there is one, draw a box around it."],
  steady: ["Steady", "good", "No defense changed the answer, and nothing suspicious was found. That does not prove that the photo is clean."],
  label_changed: ["Answer changed", "fair", "A defense changed the classifier's answer: the first answer hung on small details, as it does after an attack."],
  abstained: ["No answer", "fair", "Under random noise no label was frequent enough to be sure of."],
  suspicious: ["Suspicious", "bad", "Single pixels hold the answer, or the answer changes more under filters than it does for clean photos. An attack is likely."],
};

export const LABELS = { with_mask: "wears a mask", without_mask: "no mask", mask_weared_incorrect: "mask worn wrongly" };
export const labelWords = (label) => LABELS[label] ?? label;

const NAMES = {
  images: "Photos", faces: "Which faces", min_face: "Smallest face to find", upright: "People stand upright",
  annotate: "Also draw the boxes on a copy", model: "Model", mode: "What to do with faces", preset: "Strength",
  only: "Change only these people", except: "Leave these people as they are", parameters: "Details of the search",
  target: "Make them look like", other_photos: "Further photos of the same person", people: "People by name",
  recognizers: "Recognizers to hide from", judges: "Recognizers that check", require: "Fail unless it is at least",
  seed: "Random seed", attack: "Attack", attacks: "Attacks", at: "Where to change", label: "Label", region: "Region that may change",
  data: "Data set", dataset: "Data set", datasets: "Data sets", defenses: "Defenses", cut_size: "Size of the cut faces", protect: "Parts to keep",
  model_id: "Name of the new model", models: "Models", labels: "Labels of the photos", rename: "Rename classes", classes: "Classes",
  architecture: "Architecture", input_size: "Input size", initialization: "Start from", method: "Method", robust: "Train against attacks",
  hyperparameters: "Training settings", validation_share: "Share held out", crop_margin: "Margin around faces", license: "License",
  max_hours: "Longest time", detector: "Detector to judge", sweep: "Vary one setting", rounds: "Rounds of attack and defense",
  finds: "Attacked photos in a round", draws: "Random draws of an attack", judged_draws: "Random draws that judge", bootstrap: "Bootstrap samples",
  designs: "Number of designs", generator: "Generator", from_model: "Generator to go on from", shape: "Shape", projector: "How masks are put on",
  eps: "Largest change", steps: "Steps", step_size: "Step size", norm: "Norm", loss: "Loss", restarts: "Restarts", random_start: "Random start",
  queries: "Queries of the model", pixels: "Pixels", population: "Population", generations: "Generations", strategy: "Strategy", weight: "Weight",
  id: "Name", name: "Name", task: "Task", layout: "Layout of the files", frames: "Most frames of a video", frames_per_second: "Frames a second of a video",
  keep_seconds: "Delete after", consent: "The person on these photos agrees", towards: "Towards", hog: "Details of the pattern", experiment: "Experiment",
  split: "Part", sample: "How many at most", values: "Values", parameter: "Setting", max_lr: "Highest learning rate", clip_norm: "Largest gradient norm",
};
export const nameOf = (name) => NAMES[name] ?? name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");

const UNITS = {
  eps: "of 255 levels", step_size: "of 255 levels", min_face: "pixels", cut_size: "pixels", input_size: "pixels", rotation: "°",
  max_hours: "hours", keep_seconds: "seconds", frames_per_second: "a second", quality: "of 100", chroma: "CIELAB",
  x: "pixels", y: "pixels", width: "pixels", height: "pixels", width_mm: "mm", height_mm: "mm",
};
export const unitOf = (name) => UNITS[name];

const CHOICES = {
  auto: "find them for me", whole: "each photo is one face", cloak: "cloak: people still see who it is", blur: "blur: nobody sees who it is",
  pixelate: "pixelate: nobody sees who it is", box: "box: cover it", low: "low: hardly visible", medium: "medium", high: "high: visible, stronger",
  "layout.auto": "recognize it", "device.auto": "as the service decides", "precision.auto": "as the service decides", "preset.auto": "as the service decides",
  live: "live: fast", "at.model": "in the cut face, as the model sees it", "at.photo": "in the photo itself",
  linf: "L∞: each value", l2: "L2: the sum of squares", image: "the whole cut face", face: "the face", mask: "the mask",
  de: "Few pixels: differential evolution", sparse_rs: "Few pixels: random search", exhaustive: "One pixel: try all", jsma: "Few pixels by saliency",
  fgsm: "One gradient step (FGSM)", bim: "Gradient steps (BIM)", mifgsm: "Gradient steps with momentum", pgd: "Gradient steps from a random start (PGD)",
  apgd: "PGD with automatic steps", deepfool: "Nearest boundary (DeepFool)", lbfgs: "L-BFGS", cw: "Smallest change (Carlini and Wagner)", square: "Random squares",
  boundary: "Walk along the boundary", hopskipjump: "HopSkipJump", seam_carving: "Seam carving", median: "Median filter", bit_depth: "Fewer colors",
  non_local_means: "Non-local means", jpeg: "JPEG", tv: "Total variation", pixel_repair: "Repair of single pixels", patch_denoiser: "Patch denoiser",
  noise: "Noise", smoothing: "Randomized smoothing (with a certificate)", synthetic: "a person who does not exist", photos: "a person on photos of mine",
  scratch: "nothing learned before", imagenet: "ImageNet", model: "a model", full: "train everything", features: "train the last layer only", finetune: "fine-tune",
  pixels: "few changed pixels", distillation: "distillation", none: "none", classes: "a folder for each class", identities: "a folder for each person",
  boxes: "pictures and a file of boxes", voc: "Pascal VOC", yolo: "YOLO", coco: "COCO", cvat: "CVAT",
};
export const choiceWords = (value, name) => CHOICES[`${name}.${value}`] ?? CHOICES[value] ?? String(value).replaceAll("_", " ");
