// Values of four kinds for programs in other languages. Usage: node values.mjs write|check ADDRESS PREFIX
// `write` stores them, `check` reads what somebody else has stored under the same names and compares.
import assert from "node:assert/strict";
import { deflateSync, crc32 } from "node:zlib";
import { Node, once } from "./cluster.mjs";

const [mode, address, prefix] = process.argv.slice(2);

/** One red pixel. */
function png() {
  const header = Buffer.from([0, 0, 0, 1, 0, 0, 0, 1, 8, 2, 0, 0, 0]);
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, check] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    check.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, check]);
  };
  const pixels = deflateSync(Buffer.from([0, 255, 0, 0]));
  const signature = Buffer.from("\x89PNG\r\n\x1a\n", "latin1");
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", pixels), chunk("IEND", Buffer.alloc(0))]);
}

/** A vector in the .npy format, which numpy and the Python client read as an array of float32. */
function npy(numbers) {
  const description = `{'descr': '<f4', 'fortran_order': False, 'shape': (${numbers.length},), }`;
  const header = Buffer.from(`${description.padEnd(117)}\n`);
  const magic = Buffer.from([0x93, ..."NUMPY".split("").map((c) => c.charCodeAt(0)), 1, 0, header.length, 0]);
  const data = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => data.writeFloatLE(number, 4 * i));
  return Buffer.concat([magic, header, data]);
}

/** The numbers of a vector of float32 in the .npy format. */
function fromNpy(data) {
  const start = 10 + data.readUInt16LE(8);
  assert.match(data.toString("latin1", 10, start), /'descr': '<f4'/);
  return Array.from({ length: (data.length - start) / 4 }, (_, i) => data.readFloatLE(start + 4 * i));
}

const VECTOR = [0.5, -1.25, 3, 1e-3].map(Math.fround);
const VALUES = {
  text: { type: "text/plain", data: Buffer.from("grüße, 世界") },
  json: { type: "application/json", data: Buffer.from('{"name":"Ada","tags":["a","b"],"pi":3.25}') },
  png: { type: "image/png", data: png() },
  vector: { type: "application/x-npy", data: npy(VECTOR) },
};

const node = new Node(address);
for (const [name, { type, data }] of Object.entries(VALUES)) {
  const key = Buffer.from(prefix + name);
  if (mode === "write") {
    await node.cache("set", { key, value: data, contentType: type, idempotency: once() });
    console.log(name, "written");
    continue;
  }
  const { entry } = await node.cache("get", { key });
  assert.equal(entry.contentType, type);
  if (name === "vector") assert.deepEqual(fromNpy(entry.value), VECTOR);
  else if (name === "json") assert.deepEqual(JSON.parse(entry.value), JSON.parse(data));
  else assert(entry.value.equals(data), `${name} differs`);
  console.log(name, "equal");
}
node.close();
