// Writing PNG files, with settings in the text chunk `deepdream`, as deepdream/pictures/files.py does.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];

const CRC = Uint32Array.from({length: 256}, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

function chunk(name, data) {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The rows of the picture without alpha, each as its difference from the row above (filter 2).
function filtered(rgba, h, w) {
  const rows = new Uint8Array(h * (1 + 3 * w));
  for (let y = 0, k = 0; y < h; y++) {
    rows[k++] = 2;
    for (let x = 0; x < w; x++) {
      const i = 4 * (y * w + x), above = i - 4 * w;
      for (let c = 0; c < 3; c++) rows[k++] = rgba[i + c] - (y ? rgba[above + c] : 0);
    }
  }
  return rows;
}

function ascii(text) {
  return text.replace(/[^\x20-\x7e]/g, c => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
}

// rgba: the pixels; settings: plain values. Returns a Blob.
export async function png(rgba, h, w, settings) {
  const head = new DataView(new ArrayBuffer(13));
  head.setUint32(0, w);
  head.setUint32(4, h);
  head.setUint8(8, 8);      // bits
  head.setUint8(9, 2);      // red, green, blue
  const text = new TextEncoder().encode("deepdream\0" + ascii(JSON.stringify(settings)));
  return new Blob([new Uint8Array(SIGNATURE), chunk("IHDR", new Uint8Array(head.buffer)), chunk("tEXt", text),
                   chunk("IDAT", await deflated(filtered(rgba, h, w))), chunk("IEND", new Uint8Array(0))],
                  {type: "image/png"});
}
