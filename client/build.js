// Minifies src into dist and prints the size of a page's download. Fails if the
// core is larger than its limit.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const most = { presence: 4096, elements: Infinity };

await build({ entryPoints: Object.keys(most).map((name) => `src/${name}.js`), outdir: "dist", format: "esm", target: "es2022", minify: true, legalComments: "none" });
for (const [name, limit] of Object.entries(most)) {
  const text = readFileSync(`dist/${name}.js`);
  const size = gzipSync(text, { level: 9 }).length;
  console.log(`${name}.js: ${text.length} bytes, ${size} gzipped${limit < Infinity ? `, of ${limit} allowed` : ""}`);
  if (size > limit) {
    console.error(`${name}.js is too large by ${size - limit} bytes`);
    process.exitCode = 1;
  }
}
