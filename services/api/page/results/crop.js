// A face cut from its photo in the browser, square and with a margin, as the service cuts it.

export async function cropped(url, box, margin, signal, side = 320) {
  const image = new Image();
  image.src = url;
  await image.decode();
  if (signal.aborted) return null;
  const long = Math.max(box.width, box.height) * (1 + 2 * margin);
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const [x, y] = [box.x + box.width / 2 - long / 2, box.y + box.height / 2 - long / 2];
  canvas.getContext("2d").drawImage(image, x, y, long, long, 0, 0, side, side);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  const cut = URL.createObjectURL(blob);
  signal.addEventListener("abort", () => URL.revokeObjectURL(cut), { once: true });
  return cut;
}
