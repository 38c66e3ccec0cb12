// Stores a value and reads it back. Usage: first 127.0.0.1:7401
#include <grpcpp/grpcpp.h>

#include <iostream>

#include "replcache/v1/cache.grpc.pb.h"

namespace api = replcache::v1;

int main(int, char** arguments) {
  auto cache = api::Cache::NewStub(grpc::CreateChannel(arguments[1], grpc::InsecureChannelCredentials()));

  api::SetRequest set;
  set.set_key("greeting");
  set.set_value("hello");
  set.set_content_type("text/plain");
  set.mutable_ttl()->set_seconds(600);
  set.mutable_idempotency()->set_request_id("a new one for each write: 16 random bytes");
  api::SetResponse written;
  grpc::ClientContext set_call;
  grpc::Status status = cache->Set(&set_call, set, &written);

  api::GetRequest get;
  get.set_key("greeting");
  api::GetResponse answer;
  grpc::ClientContext get_call;
  if (status.ok()) status = cache->Get(&get_call, get, &answer);
  if (!status.ok()) {
    std::cerr << status.error_message() << '\n';
    return 1;
  }
  std::cout << answer.entry().value() << " version " << answer.entry().version() << '\n';
}
