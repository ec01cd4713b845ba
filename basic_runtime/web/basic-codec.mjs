// Decodes and encodes .basic files in browsers, and in Node: docs/c-library.md.
//
//     const codec = await BasicCodec.load("basic-codec.wasm", "model.basicmodel");
//     const picture = await codec.decode("photo.basic");
//     picture.draw(canvas);
//     const file = await codec.encode(imageData, { quality: 60 }); // with a model that was packed with encoders

const isInNode = globalThis.process?.versions?.node !== undefined;

// The bytes of a path, or of an address of a file, which Node does not fetch.
const readFile = async (source) => {
  const files = await import("node:fs/promises");
  try {
    return new Uint8Array(await files.readFile(source.startsWith("file:") ? new URL(source) : source));
  } catch (error) {
    throw new Error(`${source}: cannot be loaded (${error.code}): check the path`);
  }
};

const asBytes = async (source) => {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (typeof Blob !== "undefined" && source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  if (isInNode && !(source instanceof Response) && !/^(https?|data|blob):/i.test(source)) return readFile(String(source));
  const response = source instanceof Response ? source : await fetch(source);
  if (!response.ok) throw new Error(`${response.url}: cannot be loaded (${response.status})`);
  return new Uint8Array(await response.arrayBuffer());
};

// What a zlib stream holds, which must be `size` bytes.
const inflate = async (stream, size, what) => {
  const wrong = new Error(`${what} does not hold the bytes it should: get the file again`);
  const result = new Uint8Array(size);
  let filled = 0;
  try {
    const reader = new Blob([stream]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let part; !(part = await reader.read()).done; filled += part.value.length) {
      if (filled + part.value.length > size) {
        await reader.cancel();
        throw wrong;
      }
      result.set(part.value, filled);
    }
  } catch {
    throw wrong;
  }
  if (filled !== size) throw wrong;
  return result;
};

const deflate = async (bytes) => {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

// The data of a chunk of metadata (docs/format.md), up to 16 MiB.
const unpackMetadata = async (payload, what) => {
  if (payload[0] === 0) return payload.slice(1);
  let size = 0;
  let place = 1;
  for (let shift = 0; ; shift += 7, ++place) {
    size += (payload[place] & 0x7f) * 2 ** shift;
    if (!(payload[place] & 0x80)) break;
  }
  if (payload[0] !== 1 || size > 16 << 20) throw new Error(`${what} is damaged: get the file again`);
  return inflate(payload.subarray(place + 1), size, what);
};

const joined = (method, rest) => {
  const payload = new Uint8Array(1 + rest.length);
  payload[0] = method;
  payload.set(rest, 1);
  return payload;
};

// The orientation that EXIF data states, 1 to 8: how a viewer turns the picture.
const orientationOf = (exif) => {
  const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949;
    const directory = view.getUint32(4, little);
    for (let k = 0; k < view.getUint16(directory, little); ++k) {
      const entry = directory + 2 + 12 * k;
      if (view.getUint16(entry, little) === 0x0112) {
        const found = view.getUint16(entry + 8, little);
        return found >= 1 && found <= 8 ? found : 1;
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // EXIF data that ends too early tells nothing
  }
  return 1;
};

const CRCS = Uint32Array.from({ length: 256 }, (_, crc) => {
  for (let bit = 0; bit < 8; ++bit) crc = (crc & 1 ? 0xedb88320 : 0) ^ (crc >>> 1);
  return crc;
});

const chunkOf = (type, payload) => {
  const chunk = new Uint8Array(12 + payload.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, payload.length);
  chunk.set(new TextEncoder().encode(type), 4);
  chunk.set(payload, 8);
  let crc = -1;
  for (let k = 4; k < chunk.length - 4; ++k) crc = CRCS[(crc ^ chunk[k]) & 255] ^ (crc >>> 8);
  view.setUint32(chunk.length - 4, ~crc);
  return chunk;
};

// A zlib stream of bytes that are stored, not packed, which takes no time.
const storedStream = (bytes) => {
  const most = 65535;
  const blocks = Math.ceil(bytes.length / most);
  const stream = new Uint8Array(2 + 5 * blocks + bytes.length + 4);
  const view = new DataView(stream.buffer);
  view.setUint16(0, 0x7801);
  let [place, low, high] = [2, 1, 0];
  for (let block = 0; block < blocks; ++block) {
    const part = bytes.subarray(block * most, (block + 1) * most);
    stream[place] = block === blocks - 1 ? 1 : 0;
    view.setUint16(place + 1, part.length, true);
    view.setUint16(place + 3, ~part.length, true);
    stream.set(part, place + 5);
    place += 5 + part.length;
    for (let k = 0; k < part.length; ++k) high += low += part[k]; // below 2^53 for a block, so modulo 65521 can wait
    [low, high] = [low % 65521, high % 65521];
  }
  view.setUint32(place, high * 65536 + low);
  return stream;
};

/** A PNG of RGBA in the colours of a profile: what browsers convert to those of their screens. */
export const pngOf = (width, height, data, icc) => {
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint16(8, 0x0806); // 8 bits of RGBA
  const rows = new Uint8Array(height * (1 + 4 * width));
  for (let y = 0; y < height; ++y) rows.set(data.subarray(4 * width * y, 4 * width * (y + 1)), 1 + y * (1 + 4 * width));
  const profile = storedStream(icc);
  const named = new Uint8Array(5 + profile.length);
  named.set(new TextEncoder().encode("icc"));
  named.set(profile, 5); // behind two zeros: the end of the name, and the method
  const chunks = [["IHDR", new Uint8Array(header.buffer)], ["iCCP", named], ["IDAT", storedStream(rows)], ["IEND", []]];
  const signature = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
  return new Blob([signature, ...chunks.map((chunk) => chunkOf(...chunk))], { type: "image/png" });
};

// A picture that the browser converts from the colours of its profile; null where there is no need, or it cannot.
const bitmapOf = async (width, height, data, icc) => {
  const isRgb = icc && new TextDecoder().decode(icc.subarray(16, 20)) === "RGB "; // ICC.1:2022, 7.2.8
  if (!isRgb || typeof createImageBitmap === "undefined") return null;
  return createImageBitmap(pngOf(width, height, data, icc)).catch(() => null); // a damaged profile is left out
};

/** A decoded picture. */
export class BasicPicture {
  constructor({ width, height, data, orientation, icc = null, bitmap = null }) {
    this.width = width;
    this.height = height;
    /** RGBA, `height` rows of 4 `width` bytes, as the file stores them. */
    this.data = data;
    /** 1 to 8, as in EXIF: how `draw` turns the picture. */
    this.orientation = orientation;
    /** The ICC profile of `data`, a Uint8Array; null for sRGB. */
    this.icc = icc;
    /** The picture in the colours of screens, an ImageBitmap, where a profile asks for it; or null. */
    this.bitmap = bitmap;
  }

  /** The pixels as the file stores them, in the colours of `icc`. */
  toImageData() {
    return new ImageData(this.data, this.width, this.height);
  }

  /** Draws the picture on a canvas, which takes its size, in its right colours and upright. */
  draw(canvas) {
    const turned = this.orientation > 4;
    canvas.width = turned ? this.height : this.width;
    canvas.height = turned ? this.width : this.height;
    const wide = this.bitmap && globalThis.matchMedia?.("(color-gamut: p3)").matches;
    const context = canvas.getContext("2d", { colorSpace: wide ? "display-p3" : "srgb" });
    if (this.orientation === 1 && !this.bitmap) {
      context.putImageData(this.toImageData(), 0, 0);
      return;
    }
    const [w, h] = [this.width, this.height];
    const ways = [
      [1, 0, 0, 1, 0, 0],
      [-1, 0, 0, 1, w, 0],
      [-1, 0, 0, -1, w, h],
      [1, 0, 0, -1, 0, h],
      [0, 1, 1, 0, 0, 0],
      [0, 1, -1, 0, h, 0],
      [0, -1, -1, 0, h, w],
      [0, -1, 1, 0, 0, w],
    ];
    context.setTransform(...ways[this.orientation - 1]);
    context.drawImage(this.bitmap ?? this._stored(), 0, 0);
    context.resetTransform();
  }

  _stored() {
    const canvas = new OffscreenCanvas(this.width, this.height);
    canvas.getContext("2d").putImageData(this.toImageData(), 0, 0);
    return canvas;
  }
}

/** Decodes and encodes files with one packed model. One thread; use it in a worker to keep a page responsive. */
export class BasicCodec {
  /** `wasm`: basic-codec.wasm, `model`: what basic-run pack made; each an address, in Node a path, bytes, a Blob or a Response. */
  static async load(wasm, model) {
    const [program, packed] = await Promise.all([asBytes(wasm), asBytes(model)]);
    const nothing = () => 0;
    const notThere = () => 52; // ENOSYS: there is no system
    const { instance } = await WebAssembly.instantiate(program, {
      env: { emscripten_notify_memory_growth: nothing },
      wasi_snapshot_preview1: new Proxy({}, { get: (_, name) => (name === "clock_time_get" ? nothing : notThere) }),
    });
    return new BasicCodec(instance.exports, packed);
  }

  constructor(exports, packed) {
    this._exports = exports;
    exports._initialize?.();
    this._model = this._given(packed, (place) => this._checked(exports.basic_model_new(place, packed.length)));
  }

  /**
   * Decodes a file: an address, bytes, a Blob or a Response. `level`: 0 to 7, by default what the file suggests, or the
   * nearest that the model has. Throws an Error whose message is one line.
   */
  async decode(source, { level = -1 } = {}) {
    const bytes = await asBytes(source);
    const exports = this._exports;
    const file = this._given(bytes, (place) => this._checked(exports.basic_file_new(place, bytes.length)));
    let rgba = 0;
    try {
      rgba = this._checked(exports.basic_decode_rgba(this._model, file, level));
      const [width, height] = [exports.basic_file_width(file), exports.basic_file_height(file)];
      await this._putAlpha(file, rgba, width, height);
      const [exif, icc] = [await this._metadata(file, "exif"), await this._metadata(file, "iccp")];
      const data = new Uint8ClampedArray(exports.memory.buffer, rgba, 4 * width * height).slice();
      const bitmap = await bitmapOf(width, height, data, icc);
      return new BasicPicture({ width, height, data, orientation: exif ? orientationOf(exif) : 1, icc, bitmap });
    } finally {
      exports.basic_free(rgba);
      exports.basic_file_delete(file);
    }
  }

  /**
   * Encodes a picture, {width, height, data} of RGBA like ImageData, to the bytes of a file. `quality`: 1 to 100; `level`: 0
   * to 7, by default the highest that the model encodes at; `effort`: 0 is fastest, 1 fits a filter to the picture. Throws
   * an Error whose message is one line.
   */
  async encode({ width, height, data }, { quality = 50, level = -1, effort = 1 } = {}) {
    if (!(quality >= 1 && quality <= 100)) throw new Error(`the quality must be 1 to 100, not ${quality}`);
    if (effort !== 0 && effort !== 1) throw new Error(`the effort must be 0 or 1 here, not ${effort}`);
    if (!(width > 0 && height > 0) || data.length !== 4 * width * height) throw new Error("a picture has 4 bytes for each pixel");
    const exports = this._exports;
    const step = Math.round(((quality - 1) * 63) / 99);
    const alpha = await this._alphaOf(width, height, data);
    return this._given(alpha, (chunk) =>
      this._given(data, (rgba) =>
        this._sized((size) =>
          this._checked(
            exports.basic_encode_rgba(this._model, rgba, width, height, step, level, effort, chunk, alpha.length, size),
          ),
        ),
      ),
    );
  }

  // The payload of the chunk for alpha; empty for a picture that is opaque.
  async _alphaOf(width, height, data) {
    const raw = this._given(data, (rgba) =>
      this._sized((size) => this._exports.basic_take_alpha(rgba, width, height, size)),
    );
    if (raw.length === 0) return raw;
    return raw.length === 1 ? joined(0, raw) : joined(1, await deflate(raw));
  }

  async _putAlpha(file, rgba, width, height) {
    const payload = this._chunk(file, "ALPH");
    if (!payload) return;
    const constant = payload[0] === 0 && payload.length === 2;
    if (!constant && payload[0] !== 1) throw new Error("the alpha plane is coded in an unknown way: a newer decoder may read it");
    const raw = constant ? payload.subarray(1) : await inflate(payload.subarray(1), height * (width + 1), "the alpha plane");
    this._given(raw, (place) => this._checked(this._exports.basic_put_alpha(file, place, raw.length, rgba)));
  }

  // What a chunk of metadata holds; null if there is none.
  async _metadata(file, type) {
    const payload = this._chunk(file, type);
    return payload ? unpackMetadata(payload, `chunk ${type}`) : null;
  }

  // A copy of the payload of a chunk; null if there is none.
  _chunk(file, type) {
    const size = this._allocated(4);
    try {
      const place = this._given(new TextEncoder().encode(type), (name) => this._exports.basic_file_chunk(file, name, size));
      return place ? this._copy(place >>> 0, size) : null;
    } finally {
      this._exports.basic_free(size);
    }
  }

  // The bytes that a function makes, whose size it writes to the place it is given; empty if it makes none.
  _sized(work) {
    const size = this._allocated(4);
    let place = 0;
    try {
      place = work(size) >>> 0;
      if (!place && this._error()) throw new Error(this._error());
      return place ? this._copy(place, size) : new Uint8Array();
    } finally {
      this._exports.basic_free(place);
      this._exports.basic_free(size);
    }
  }

  // As many bytes as the number at `size` says.
  _copy(place, size) {
    const memory = this._exports.memory.buffer;
    return new Uint8Array(memory, place, new DataView(memory).getUint32(size, true)).slice();
  }

  // A place in the program's memory. What the program returns is signed: places beyond 2 GiB are negative.
  _allocated(size) {
    const place = this._exports.basic_allocate(size) >>> 0;
    if (!place) throw new Error("not enough memory for this picture: try a smaller one");
    return place;
  }

  // What a function makes of bytes that lie in the program's memory for as long.
  _given(bytes, work) {
    const place = this._allocated(Math.max(bytes.length, 1));
    try {
      new Uint8Array(this._exports.memory.buffer, place, bytes.length).set(bytes);
      return work(place);
    } finally {
      this._exports.basic_free(place);
    }
  }

  // A result that is not 0, which stands for an error.
  _checked(result) {
    if (result) return result >>> 0;
    throw new Error(this._error());
  }

  // What failed last; empty if it did not.
  _error() {
    const memory = new Uint8Array(this._exports.memory.buffer);
    const first = this._exports.basic_error() >>> 0;
    return new TextDecoder().decode(memory.subarray(first, memory.indexOf(0, first)));
  }
}
