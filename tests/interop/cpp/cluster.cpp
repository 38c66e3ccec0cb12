#include "cluster.h"

#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace {

using std::chrono::steady_clock;

constexpr auto kGiveUp = std::chrono::seconds(30);
constexpr auto kPause = std::chrono::milliseconds(100);

std::shared_ptr<grpc::ChannelCredentials> credentials(const std::string& ca_file, const std::string& token) {
  if (ca_file.empty()) return grpc::InsecureChannelCredentials();
  std::ostringstream roots;
  roots << std::ifstream(ca_file).rdbuf();
  auto tls = grpc::SslCredentials({.pem_root_certs = roots.str(), .pem_private_key = "", .pem_cert_chain = ""});
  if (token.empty()) return tls;
  return grpc::CompositeChannelCredentials(tls, grpc::AccessTokenCredentials(token));
}

}  // namespace

Failure::Failure(grpc::Status status) : std::runtime_error(status.error_message()), status_(std::move(status)) {}

std::string Failure::reason() const {
  google::rpc::Status status;
  status.ParseFromString(status_.error_details());
  for (const auto& detail : status.details()) {
    google::rpc::ErrorInfo info;
    if (detail.UnpackTo(&info)) {
      return info.reason() + " may_have_executed=" + info.metadata().at("may_have_executed");
    }
  }
  return std::to_string(status_.error_code());
}

bool Failure::may_pass() const {
  return status_.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status_.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
}

Node::Node(const std::string& address, const std::string& ca_file, const std::string& token) {
  auto channel = grpc::CreateChannel(address, credentials(ca_file, token));
  cache = api::Cache::NewStub(channel);
  lock = api::Lock::NewStub(channel);
  cluster = api::Cluster::NewStub(channel);
  watch = api::Watch::NewStub(channel);
}

void Nodes::call(const std::function<void(Node&)>& ask) {
  for (const auto end = steady_clock::now() + kGiveUp;; std::this_thread::sleep_for(kPause)) {
    try {
      return ask(*all[first]);
    } catch (const Failure& failure) {
      if (!failure.may_pass() || steady_clock::now() > end) throw;
      first = (first + 1) % all.size();
    }
  }
}

api::Idempotency once() {
  std::random_device random;
  std::string id(16, '\0');
  for (char& byte : id) byte = static_cast<char>(random());
  api::Idempotency idempotency;
  idempotency.set_request_id(id);
  return idempotency;
}
