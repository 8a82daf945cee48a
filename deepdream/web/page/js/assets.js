// The compressed files of a page: in the page itself, or next to it on a server.
// A source is {text} (base64) or {url}; its contents are compressed with gzip.

function decoded(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

async function fetched(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Error(`${url.split("/").pop()} could not be loaded from the server of this page`);
  return answer.body;
}

// Returns the contents of a source, as an ArrayBuffer.
export async function contents({text, url}) {
  const body = text === undefined ? await fetched(url) : new Blob([decoded(text)]).stream();
  return new Response(body.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// Returns an address from which a module can be imported.
export async function moduleUrl(source) {
  return URL.createObjectURL(new Blob([await contents(source)], {type: "text/javascript"}));
}
