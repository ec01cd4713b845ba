// Decodes files with the package's program: node decode.mjs FOLDER MODEL FILE... Of each it writes FILE.rgba and prints a line
// of JSON: {width, height, orientation} or {error}. A level may follow a file's name after a colon.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [folder, model, ...files] = process.argv.slice(2);
const { BasicDecoder } = await import(pathToFileURL(`${folder}/basic-decode.mjs`));
const bytes = async (path) => new Uint8Array(await readFile(path));

try {
  const decoder = await BasicDecoder.load(await bytes(`${folder}/basic-decode.wasm`), await bytes(model));
  for (const given of files) {
    const [file, level] = given.split(":");
    try {
      const { width, height, orientation, data } = await decoder.decode(await bytes(file), { level: Number(level ?? -1) });
      await writeFile(`${file}.rgba`, data);
      console.log(JSON.stringify({ width, height, orientation }));
    } catch (error) {
      console.log(JSON.stringify({ error: error.message }));
    }
  }
} catch (error) {
  console.log(JSON.stringify({ error: error.message }));
}
