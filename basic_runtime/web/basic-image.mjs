// An element for .basic files, decoded in a worker:
//
//     <script type="module" src="basic-image.mjs"></script>
//     <basic-image src="photo.basic" model="model.basicmodel" alt="A lighthouse"></basic-image>
//
// It is as large as the picture; CSS may give it a width or height. `level`: 0 to 7, by default what the file suggests.
// Events: load, and error with its line in `detail`. basic-codec.wasm, basic-codec.mjs and the worker lie beside this file.
import { BasicPicture } from "./basic-codec.mjs";

const WASM = new URL("basic-codec.wasm", import.meta.url).href;
const waiting = new Map();
let worker;
let last = 0;

const ask = (model, message) => {
  if (!worker) {
    worker = new Worker(new URL("basic-worker.mjs", import.meta.url), { type: "module" });
    worker.onmessage = ({ data: { id, error, ...answer } }) => {
      const { resolve, reject } = waiting.get(id);
      waiting.delete(id);
      if (error) reject(new Error(error));
      else resolve(answer);
    };
  }
  return new Promise((resolve, reject) => {
    waiting.set(++last, { resolve, reject });
    worker.postMessage({ id: last, wasm: WASM, model: new URL(model, document.baseURI).href, ...message });
  });
};

/** The BasicPicture of a file (an address, a Blob or bytes), decoded in the worker with the model at an address. */
export const decodeInWorker = async (file, model, options) => {
  const { picture } = await ask(model, { decode: file, options });
  return new BasicPicture(picture);
};

/** The bytes of a file of a picture, {width, height, data} of RGBA; options as those of BasicCodec.encode. */
export const encodeInWorker = async ({ width, height, data }, model, options) =>
  (await ask(model, { encode: { width, height, data }, options })).file;

export class BasicImage extends HTMLElement {
  static observedAttributes = ["src", "model", "level", "alt"];

  constructor() {
    super();
    this._canvas = document.createElement("canvas");
    this._canvas.style.cssText = "display: block; width: 100%; height: 100%";
    this.attachShadow({ mode: "open" }).innerHTML = "<style>:host { display: inline-block }</style>";
    this.shadowRoot.append(this._canvas);
  }

  connectedCallback() {
    this.attributeChangedCallback();
  }

  attributeChangedCallback(name) {
    this._canvas.role = "img";
    this._canvas.ariaLabel = this.getAttribute("alt") ?? "";
    if (this.isConnected && name !== "alt") this._show();
  }

  async _show() {
    const [src, model] = [this.getAttribute("src"), this.getAttribute("model")];
    if (!src || !model) return;
    const turn = (this._turn = Symbol(src)); // a picture that comes late, after another src, is not shown
    try {
      const address = new URL(src, document.baseURI).href;
      const picture = await decodeInWorker(address, model, { level: Number(this.getAttribute("level") ?? -1) });
      if (turn !== this._turn) return;
      picture.draw(this._canvas);
      this.dispatchEvent(new Event("load"));
    } catch (error) {
      if (turn === this._turn) this.dispatchEvent(new CustomEvent("error", { detail: error.message }));
    }
  }
}

customElements.define("basic-image", BasicImage);
