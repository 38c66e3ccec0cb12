// What every program needs: clients of all nodes, retries that execute once, and the reason of an error.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const TRY_TIMEOUT_MS = 5_000;
const GIVE_UP_MS = 30_000;
const PAUSE_MS = 100;
// Another node, or the same one a little later, may well answer. Safe for writes with a request id.
const RETRIED = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED];

const files = ["cache", "lock", "watch", "cluster"].map((name) => `replcache/v1/${name}.proto`);
const definition = loader.loadSync([...files, "google/rpc/error_details.proto"], {
  includeDirs: [new URL("../../../proto", import.meta.url).pathname],
  longs: String, // revisions and tokens have 64 bits
  enums: String,
  defaults: true,
});
const { Cache, Lock, Watch, Cluster: Admin } = grpc.loadPackageDefinition(definition).replcache.v1;

/** The services of one node: node.cache("set", request) is a promise. */
export class Node {
  constructor(address, caFile, token) {
    let credentials = grpc.credentials.createInsecure();
    if (caFile) {
      credentials = grpc.credentials.createSsl(readFileSync(caFile));
      if (token) credentials = grpc.credentials.combineChannelCredentials(credentials, bearer(token));
    }
    this.services = [Cache, Lock, Admin, Watch].map((Service) => new Service(address, credentials));
    [this.cache, this.lock, this.cluster] = this.services.map(unary);
    this.watch = (request) => this.services[3].watch(request);
  }

  close() {
    this.services.forEach((service) => service.close());
  }
}

function bearer(token) {
  return grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${token}`);
    done(null, metadata);
  });
}

function unary(service) {
  return (method, request) =>
    new Promise((resolve, reject) => {
      const options = { deadline: Date.now() + TRY_TIMEOUT_MS };
      service[method](request, options, (error, response) => (error ? reject(error) : resolve(response)));
    });
}

/** All nodes; `call` asks one after another until one answers. */
export class Cluster {
  constructor(nodes) {
    this.nodes = nodes;
    this.first = 0;
  }

  /** `ask` is called again after a failure that may pass, with the next node: send the same request. */
  async call(ask) {
    for (const giveUp = Date.now() + GIVE_UP_MS; ; await pause(PAUSE_MS)) {
      try {
        return await ask(this.nodes[this.first]);
      } catch (error) {
        if (!mayPass(error) || Date.now() > giveUp) throw error;
        this.first = (this.first + 1) % this.nodes.length;
      }
    }
  }

  close() {
    this.nodes.forEach((node) => node.close());
  }
}

export const mayPass = (error) => RETRIED.includes(error.code);

/** Names one write: however often it is sent with this, it is executed once. */
export const once = () => ({ requestId: randomBytes(16) });

/** What ErrorInfo says; the gRPC code where no node has answered. */
export function reason(error) {
  const [status] = error.metadata?.get("grpc-status-details-bin") ?? [];
  const details = status ? definition["google.rpc.Status"].deserialize(status).details : [];
  for (const detail of details) {
    if (detail.type_url.endsWith("/google.rpc.ErrorInfo")) {
      const info = definition["google.rpc.ErrorInfo"].deserialize(detail.value);
      return `${info.reason} may_have_executed=${info.metadata.may_have_executed}`;
    }
  }
  return grpc.status[error.code] ?? String(error);
}
