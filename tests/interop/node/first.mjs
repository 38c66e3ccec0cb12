// Stores a value and reads it back. Usage: node first.mjs 127.0.0.1:7401
import { randomBytes } from "node:crypto";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const protos = new URL("../../../proto", import.meta.url).pathname;
const definition = loader.loadSync("replcache/v1/cache.proto", { includeDirs: [protos], longs: String });
const { Cache } = grpc.loadPackageDefinition(definition).replcache.v1;

const cache = new Cache(process.argv[2], grpc.credentials.createInsecure());
const [set, get] = [cache.set, cache.get].map((method) => promisify(method).bind(cache));

await set({
  key: Buffer.from("greeting"),
  value: Buffer.from("hello"),
  contentType: "text/plain",
  ttl: { seconds: 600 },
  idempotency: { requestId: randomBytes(16) }, // a new one for each write, the same for its retries
});
const { entry } = await get({ key: Buffer.from("greeting") });
console.log(entry ? `${entry.value} version ${entry.version}` : "no such key");
cache.close();
