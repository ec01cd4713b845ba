// Decodes and encodes in the background for basic-image.mjs: messages are {id, wasm, model, decode, options}, of a file, or
// {id, wasm, model, encode, options}, of {width, height, data}; answers {id, picture}, {id, file} or {id, error}.
import { BasicCodec } from "./basic-codec.mjs";

const codecs = new Map(); // by the addresses of program and model

const codecFor = (wasm, model) => {
  const key = `${wasm}\n${model}`;
  if (!codecs.has(key)) {
    const loading = BasicCodec.load(wasm, model);
    loading.catch(() => codecs.delete(key)); // the next picture tries again
    codecs.set(key, loading);
  }
  return codecs.get(key);
};

self.onmessage = async ({ data: { id, wasm, model, decode, encode, options } }) => {
  try {
    const codec = await codecFor(wasm, model);
    if (encode) {
      const file = await codec.encode(encode, options);
      self.postMessage({ id, file }, [file.buffer]);
    } else {
      const picture = await codec.decode(decode, options);
      const handed = [picture.data.buffer, ...(picture.bitmap ? [picture.bitmap] : [])];
      self.postMessage({ id, picture: { ...picture } }, handed);
    }
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};
