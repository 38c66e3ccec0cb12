// What every program needs: stubs of all nodes, retries that execute once, and the reason of an error.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "replcache/v1/cache.grpc.pb.h"
#include "replcache/v1/cluster.grpc.pb.h"
#include "replcache/v1/lock.grpc.pb.h"
#include "replcache/v1/watch.grpc.pb.h"

namespace api = replcache::v1;

// A call that failed.
class Failure : public std::runtime_error {
 public:
  explicit Failure(grpc::Status status);

  // What ErrorInfo says; the number of the gRPC code where no node has answered.
  std::string reason() const;

  // Another node, or the same one a little later, may well answer.
  bool may_pass() const;

 private:
  grpc::Status status_;
};

// The stubs of one node.
struct Node {
  // ca_file and token may be empty.
  Node(const std::string& address, const std::string& ca_file, const std::string& token);

  std::unique_ptr<api::Cache::Stub> cache;
  std::unique_ptr<api::Lock::Stub> lock;
  std::unique_ptr<api::Cluster::Stub> cluster;
  std::unique_ptr<api::Watch::Stub> watch;
};

// One call with a deadline: send(*node.cache, &api::Cache::Stub::Get, request).
template <typename Stub, typename Request, typename Response>
Response send(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              const Request& request) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
  Response response;
  grpc::Status status = (stub.*method)(&context, request, &response);
  if (!status.ok()) throw Failure(status);
  return response;
}

// All nodes.
struct Nodes {
  std::vector<std::shared_ptr<Node>> all;
  size_t first = 0;

  // Asks one node after another until one answers. `ask` must send the same request each time: after a failure that
  // may pass it is called again, which is safe for reads and for writes with a request id.
  void call(const std::function<void(Node&)>& ask);
};

// Names one write: however often it is sent with this, it is executed once.
api::Idempotency once();
