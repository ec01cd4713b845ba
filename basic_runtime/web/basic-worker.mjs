// Decodes in the background for basic-image.mjs: messages are {id, wasm, model, file, level}, and answers
// {id, picture: {width, height, data, orientation}} or {id, error}.
import { BasicDecoder } from "./basic-decode.mjs";

const decoders = new Map(); // by the addresses of program and model

const decoderFor = (wasm, model) => {
  const key = `${wasm}\n${model}`;
  if (!decoders.has(key)) {
    const loading = BasicDecoder.load(wasm, model);
    loading.catch(() => decoders.delete(key)); // the next picture tries again
    decoders.set(key, loading);
  }
  return decoders.get(key);
};

self.onmessage = async ({ data: { id, wasm, model, file, level } }) => {
  try {
    const decoder = await decoderFor(wasm, model);
    const { width, height, data, orientation } = await decoder.decode(file, { level });
    self.postMessage({ id, picture: { width, height, data, orientation } }, [data.buffer]);
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
};
