// Pictures from files, scenes and the camera, scaled to the size of the dream.

import {fromRgba} from "./pixels.js";
import {rounded} from "./zoom.js";

// The size [h, w] at which a picture is dreamt: the longest side at most `side`, and at most `limit` pixels.
export function fitted(h, w, side, limit) {
  const fits = Math.min(1, side / Math.max(h, w)), most = Math.sqrt(limit / (h * w));
  return [h, w].map(n => Math.max(1, most < fits ? Math.floor(n * most) : rounded(n * fits)));
}

async function sha256(blob) {
  if (!globalThis.crypto?.subtle) return null;      // only in a safe context
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(digest, byte => byte.toString(16).padStart(2, "0")).join("");
}

// Read a picture file. Returns {image, name, facts}: facts are entries of the metadata.
export async function fromBlob(blob, name, facts) {
  const image = await createImageBitmap(blob, {imageOrientation: "from-image"}).catch(() => null);
  if (!image) throw new Error(`${name}: this browser cannot read it as a picture; JPEG, PNG and WebP will do`);
  return {image, name, facts: facts ?? {picture: name, picture_sha256: await sha256(blob)}};
}

// The pixels of a picture, scaled; or, with `exact`, its middle, scaled to that size. Returns {data, channels, h, w}.
export function pixelsOf(image, h, w, exact = false) {
  const canvas = new OffscreenCanvas(w, h), context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingQuality = "high";
  const scale = exact ? Math.min(image.width / w, image.height / h) : 0;
  const [cw, ch] = exact ? [w * scale, h * scale] : [image.width, image.height];
  context.drawImage(image, (image.width - cw) / 2, (image.height - ch) / 2, cw, ch, 0, 0, w, h);
  return fromRgba(context.getImageData(0, 0, w, h).data, h, w);
}

// Show the camera in a dialog. Resolves to a picture, or null if the dialog is closed.
export async function fromCamera(dialog, video, shoot, close) {
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "user"}, audio: false});
  } catch (error) {
    throw new Error(`The camera cannot be used: ${error?.message ?? "this browser gives it to secure pages only"}`);
  }
  video.srcObject = stream;
  dialog.showModal();
  const taken = await new Promise(resolve => {
    shoot.onclick = () => resolve(true);
    close.onclick = dialog.onclose = () => resolve(false);
  });
  const image = taken && video.videoWidth ? await createImageBitmap(video) : null;
  stream.getTracks().forEach(track => track.stop());
  video.srcObject = null;
  dialog.onclose = null;
  dialog.close();
  return image && {image, name: "camera", facts: {picture: "camera", picture_sha256: null}};
}
