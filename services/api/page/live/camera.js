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

// The picture of now, `width` pixels wide: as a bitmap to show and as a JPEG to send.
export async function grab(video, width) {
  const height = Math.round((width * video.videoHeight) / video.videoWidth);
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").drawImage(video, 0, 0, width, height);
  const at = performance.now();
  const [blob, bitmap] = await Promise.all([canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 }), createImageBitmap(canvas)]);
  return { at, blob, bitmap, width, height };
}
