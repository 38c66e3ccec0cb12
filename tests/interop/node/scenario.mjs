// The scenario that every language runs. Usage: node scenario.mjs ADDRESS,ADDRESS,... PREFIX [CA_FILE]
// The token, if any, is in REPLCACHE_TOKEN. Prints one line a step; after `kill NODE` it waits for a line.
import assert from "node:assert/strict";
import { createInterface } from "node:readline/promises";
import { Cluster, Node, mayPass, once, reason } from "./cluster.mjs";

const EVENTS = 20;
const [addresses, prefix, caFile] = [process.argv[2].split(","), process.argv[3], process.argv[4]];
const token = process.env.REPLCACHE_TOKEN;
const bytes = (text) => Buffer.from(text);
const print = (...parts) => console.log(parts.join(" "));

async function readAndWrite(cluster, key) {
  const [one, two, three] = cluster.nodes;
  const written = await one.cache("set", {
    key,
    value: bytes('{"name":"Ada"}'),
    contentType: "application/json",
    ttl: { seconds: 600 },
    idempotency: once(),
  });
  print("set: version", written.version);

  const { entry } = await two.cache("get", { key });
  print("get linearizable:", entry.value, entry.contentType);

  const session = { level: "READ_LEVEL_SESSION", minRevision: written.header.revision };
  const own = await three.cache("get", { key, read: session });
  assert(BigInt(own.header.revision) >= BigInt(written.header.revision));
  print("get session:", own.entry.value);

  const local = { level: "READ_LEVEL_ONE", maxStaleness: { seconds: 2 } };
  const near = await one.cache("get", { key, read: local });
  const { seconds, nanos } = near.header.staleness;
  assert(Number(seconds) + nanos / 1e9 <= 2);
  print("get one:", near.entry.value);

  const missing = await one.cache("get", { key: bytes(`${key}/none`) });
  print("get missing:", missing.entry ? "present" : "absent");

  const merged = await one.cache("update", { key, mergeJson: bytes('{"admin":true}'), idempotency: once() });
  print("update:", merged.entry.value, "version", merged.entry.version);
}

async function refusals({ nodes: [, node] }) {
  const update = { key: bytes(`${prefix}none`), append: bytes("x"), idempotency: once() };
  print("update missing:", await outcome(node.cache("update", update)));
  const create = { key: bytes(`${prefix}user`), condition: { ifAbsent: true }, idempotency: once() };
  print("set if absent:", await outcome(node.cache("set", create)));
  const long = { key: bytes(prefix.padEnd(1025)), idempotency: once() };
  print("key too long:", await outcome(node.cache("set", long)));
}

/** The same request sent twice, to two nodes, counts once. */
async function count({ nodes: [one, two] }) {
  const five = { key: bytes(`${prefix}count`), delta: 5, idempotency: once() };
  const first = await one.cache("increment", five);
  const second = await two.cache("increment", five);
  print("increment twice with one request id:", first.value, second.value);
}

async function manyAtOnce({ nodes: [, , node] }) {
  const key = bytes(`${prefix}a`);
  const operations = [
    { set: { key, value: bytes("1") } },
    { increment: { key: bytes(`${prefix}count`), delta: 1 } },
    { get: { key } },
  ];
  const { results } = await node.cache("batch", { atomic: true, operations, idempotency: once() });
  print("batch:", results[0].set.version, results[1].increment.value, results[2].get.entry.value);

  const failing = [{ delete: { key } }, { update: { key: bytes(`${prefix}none`), append: bytes("x") } }];
  const batch = { atomic: true, operations: failing, idempotency: once() };
  print("batch undone:", await outcome(node.cache("batch", batch)));
}

/** Takes 6 from the counter and adds it to another, if nobody was faster; the second time it is not 6. */
async function transaction({ nodes: [, node] }) {
  const key = bytes(`${prefix}count`);
  const move = async () => {
    const done = await node.cache("txn", {
      compares: [{ key, condition: { ifValue: bytes("6") } }],
      then: [{ increment: { key, delta: -6 } }, { increment: { key: bytes(`${prefix}other`), delta: 6 } }],
      otherwise: [{ get: { key } }],
      idempotency: once(),
    });
    return done.succeeded
      ? `then ${done.results[1].increment.value}`
      : `otherwise ${done.results[0].get.entry.value}`;
  };
  print("txn:", await outcome(move()));
  print("txn:", await outcome(move()));
}

async function lock({ nodes: [node] }) {
  const name = `${prefix}lock`;
  const acquire = async (owner) =>
    (await node.lock("acquire", { name, owner: bytes(owner), ttl: { seconds: 10 } })).token;
  const write = async (fencingToken) => {
    const fence = { name, token: fencingToken };
    const request = { key: bytes(`${prefix}guarded`), value: bytes("x"), fence, idempotency: once() };
    return `version ${(await node.cache("set", request)).version}`;
  };

  const first = await acquire("first");
  print("fenced write:", await write(first));
  print("lock held by another:", await outcome(acquire("second")));
  await node.lock("release", { name, owner: bytes("first"), token: first });
  const second = await acquire("second");
  print("later token is larger:", BigInt(second) > BigInt(first));
  print("stale fence:", await outcome(write(first)));
  print("fenced write:", await write(second));
  await node.lock("release", { name, owner: bytes("second") });
}

/** Half of the writes before the leader is killed, half after; the watch was served by that leader. */
async function watch(cluster) {
  const statuses = await Promise.all(cluster.nodes.map((node) => node.cluster("status", {})));
  const { leader } = statuses[0].header;
  cluster.first = statuses.findIndex(({ header }) => header.node === leader);
  const keys = Array.from({ length: EVENTS }, (_, i) => `${prefix}watch/${String(i).padStart(2, "0")}`);
  const base = await put(cluster, `${prefix}watch/before`);

  const changes = follow(cluster, bytes(`${prefix}watch/`), BigInt(base) + 1n);
  const seen = [];
  const half = async (part) => {
    for (const key of part) await put(cluster, key);
    while (seen.length < keys.indexOf(part.at(-1)) + 1) seen.push((await changes.next()).value);
  };
  await half(keys.slice(0, EVENTS / 2));
  print("kill", leader);
  await driver.question("");
  await half(keys.slice(EVENTS / 2));
  await changes.return();

  assert.deepEqual(seen.map((event) => event.key.toString()), keys);
  const revisions = seen.map((event) => BigInt(event.revision));
  assert(revisions.every((revision, i) => i === 0 || revision > revisions[i - 1]));
  print("watch:", seen.length, "events in order over a leader kill");
}

/** Writes whatever happens to a node, once; returns the revision. */
async function put(cluster, key) {
  const request = { key: bytes(key), value: bytes("x"), idempotency: once() };
  return (await cluster.call((node) => node.cache("set", request))).header.revision;
}

/** Every change from revision `start` on; goes on at another node when the one that serves it is gone. */
async function* follow(cluster, keys, start) {
  for (;;) {
    const call = await cluster.call((node) => opened(node.watch({ prefix: keys, startRevision: String(start) })));
    try {
      for await (const response of call) {
        for (const event of response.events) {
          start = BigInt(event.revision) + 1n;
          yield event;
        }
      }
    } catch (error) {
      if (!mayPass(error)) throw error;
    } finally {
      call.cancel();
    }
  }
}

/** The stream, once the node has accepted it. */
function opened(call) {
  return new Promise((resolve, reject) => {
    call.once("metadata", () => resolve(call));
    call.once("error", reject);
  });
}

/** What the promise brings, or why it was refused. */
async function outcome(promise) {
  try {
    return await promise;
  } catch (error) {
    return reason(error);
  }
}

const driver = createInterface({ input: process.stdin });
const cluster = new Cluster(addresses.map((address) => new Node(address, caFile, token)));
await readAndWrite(cluster, bytes(`${prefix}user`));
await refusals(cluster);
await count(cluster);
await manyAtOnce(cluster);
await transaction(cluster);
await lock(cluster);
if (token) {
  const stranger = new Node(addresses[0], caFile);
  print("no token:", await outcome(stranger.cache("get", { key: bytes(prefix) })));
  stranger.close();
  print("no right:", await outcome(cluster.nodes[0].cache("get", { key: bytes("not/ours") })));
}
await watch(cluster);
cluster.close();
driver.close();
