// The camera, and its frames as small JPEGs.

export class CameraError extends Error {}

const WHY = {
  NotAllowedError: "The camera was refused. Allow it for this page in the browser's settings, then try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera is in use by another program.",
  OverconstrainedError: "The camera has no fitting format.",
};

export async function openCamera(signal) {
  if (!navigator.mediaDevices?.getUserMedia) throw new CameraError("This page may use a camera only over HTTPS, or on the machine that runs the service.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user", frameRate: { ideal: 30 } } });
  } catch (error) {
    throw new CameraError(WHY[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
  const close = () => stream.getTracks().forEach((track) => track.stop());
  if (signal.aborted) {
    close();
    throw new DOMException("Left.", "AbortError");
  }
  signal.addEventListener("abort", close, { once: true });
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  await video.play();
  return { video, close };
}

// The picture of now, `width` pixels wide: to show, and as a JPEG to send.
export async function grab(video, width) {
  const height = Math.round((width * video.videoHeight) / video.videoWidth);
  const picture = new OffscreenCanvas(width, height);
  // It is read back once, so it need not go to the graphics card and come back.
  picture.getContext("2d", { willReadFrequently: true }).drawImage(video, 0, 0, width, height);
  const at = performance.now();
  return { at, picture, width, height, blob: await picture.convertToBlob({ type: "image/jpeg", quality: 0.85 }) };
}
