// Runs the package's program: node web.mjs FOLDER MODEL FILE... Of each .basic file it writes FILE.rgba, and prints a line of
// JSON: {width, height, orientation} or {error}; a level may follow a file's name after a colon. Of FILE.json, {width, height,
// options} of the pixels in FILE.rgba, it writes FILE.basic.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [folder, model, ...files] = process.argv.slice(2);
const { BasicCodec } = await import(pathToFileURL(`${folder}/basic-codec.mjs`));
const bytes = async (path) => new Uint8Array(await readFile(path));

try {
  const codec = await BasicCodec.load(await bytes(`${folder}/basic-codec.wasm`), await bytes(model));
  for (const given of files) {
    const [file, level] = given.split(":");
    try {
      if (file.endsWith(".json")) {
        const { width, height, options } = JSON.parse(await readFile(file));
        const name = file.slice(0, -".json".length);
        await writeFile(`${name}.basic`, await codec.encode({ width, height, data: await bytes(`${name}.rgba`) }, options));
        console.log(JSON.stringify({ width, height }));
        continue;
      }
      const { width, height, orientation, data } = await codec.decode(await bytes(file), { level: Number(level ?? -1) });
      await writeFile(`${file}.rgba`, data);
      console.log(JSON.stringify({ width, height, orientation }));
    } catch (error) {
      console.log(JSON.stringify({ error: error.message }));
    }
  }
} catch (error) {
  console.log(JSON.stringify({ error: error.message }));
}
