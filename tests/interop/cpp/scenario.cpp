// The scenario that every language runs. Usage: scenario ADDRESS,ADDRESS,... PREFIX [CA_FILE]
// The token, if any, is in REPLCACHE_TOKEN. Prints one line a step; after `kill NODE` it waits for a line.
#include <cstdlib>
#include <deque>
#include <iomanip>
#include <iostream>
#include <sstream>

#include "cluster.h"

namespace {

constexpr int kEvents = 20;

template <typename... Parts>
void print(const std::string& first, const Parts&... parts) {
  std::cout << first;
  ((std::cout << ' ' << parts), ...);
  std::cout << std::endl;
}

void ensure(bool holds, const std::string& otherwise) {
  if (!holds) throw std::runtime_error(otherwise);
}

// What the call brings, or why it was refused.
std::string outcome(const std::function<std::string()>& call) {
  try {
    return call();
  } catch (const Failure& failure) {
    return failure.reason();
  }
}

api::GetRequest get(const std::string& key) {
  api::GetRequest request;
  request.set_key(key);
  return request;
}

// A write with its own request id.
api::SetRequest set(const std::string& key, const std::string& value) {
  api::SetRequest request;
  request.set_key(key);
  request.set_value(value);
  *request.mutable_idempotency() = once();
  return request;
}

api::GetResponse read(Node& node, const api::GetRequest& request) {
  return send(*node.cache, &api::Cache::Stub::Get, request);
}

api::SetResponse write(Node& node, const api::SetRequest& request) {
  return send(*node.cache, &api::Cache::Stub::Set, request);
}

void read_and_write(Nodes& nodes, const std::string& key) {
  Node &one = *nodes.all[0], &two = *nodes.all[1], &three = *nodes.all[2];
  auto request = set(key, R"({"name":"Ada"})");
  request.set_content_type("application/json");
  request.mutable_ttl()->set_seconds(600);
  const auto written = write(one, request);
  print("set: version", written.version());

  const auto entry = read(two, get(key)).entry();
  print("get linearizable:", entry.value(), entry.content_type());

  auto session = get(key);
  session.mutable_read()->set_level(api::READ_LEVEL_SESSION);
  session.mutable_read()->set_min_revision(written.header().revision());
  const auto own = read(three, session);
  ensure(own.header().revision() >= written.header().revision(), "an older state was read");
  print("get session:", own.entry().value());

  auto local = get(key);
  local.mutable_read()->set_level(api::READ_LEVEL_ONE);
  local.mutable_read()->mutable_max_staleness()->set_seconds(2);
  const auto near = read(one, local);
  const auto& staleness = near.header().staleness();
  ensure(staleness.seconds() + staleness.nanos() / 1e9 <= 2, "too stale");
  print("get one:", near.entry().value());

  print("get missing:", read(one, get(key + "/none")).has_entry() ? "present" : "absent");

  api::UpdateRequest merge;
  merge.set_key(key);
  merge.set_merge_json(R"({"admin":true})");
  *merge.mutable_idempotency() = once();
  const auto merged = send(*one.cache, &api::Cache::Stub::Update, merge).entry();
  print("update:", merged.value(), "version", merged.version());
}

void refusals(Node& node, const std::string& prefix) {
  api::UpdateRequest append;
  append.set_key(prefix + "none");
  append.set_append("x");
  *append.mutable_idempotency() = once();
  print("update missing:", outcome([&] {
          return send(*node.cache, &api::Cache::Stub::Update, append).entry().value();
        }));
  auto create = set(prefix + "user", "");
  create.mutable_condition()->set_if_absent(true);
  print("set if absent:", outcome([&] { return std::to_string(write(node, create).version()); }));
  const auto too_long = set(prefix + std::string(1024, 'x'), "");
  print("key too long:", outcome([&] { return std::to_string(write(node, too_long).version()); }));
}

// The same request sent twice, to two nodes, counts once.
void count(Nodes& nodes, const std::string& prefix) {
  api::IncrementRequest five;
  five.set_key(prefix + "count");
  five.set_delta(5);
  *five.mutable_idempotency() = once();
  const auto first = send(*nodes.all[0]->cache, &api::Cache::Stub::Increment, five);
  const auto second = send(*nodes.all[1]->cache, &api::Cache::Stub::Increment, five);
  print("increment twice with one request id:", first.value(), second.value());
}

void add_increment(api::Operation* operation, const std::string& key, long delta) {
  operation->mutable_increment()->set_key(key);
  operation->mutable_increment()->set_delta(delta);
}

void many_at_once(Node& node, const std::string& prefix) {
  api::BatchRequest batch;
  batch.set_atomic(true);
  *batch.mutable_idempotency() = once();
  auto* first = batch.add_operations()->mutable_set();
  first->set_key(prefix + "a");
  first->set_value("1");
  add_increment(batch.add_operations(), prefix + "count", 1);
  batch.add_operations()->mutable_get()->set_key(prefix + "a");
  const auto done = send(*node.cache, &api::Cache::Stub::Batch, batch);
  const auto& results = done.results();
  print("batch:", results[0].set().version(), results[1].increment().value(), results[2].get().entry().value());

  api::BatchRequest failing;
  failing.set_atomic(true);
  *failing.mutable_idempotency() = once();
  failing.add_operations()->mutable_delete_()->set_key(prefix + "a");
  auto* update = failing.add_operations()->mutable_update();
  update->set_key(prefix + "none");
  update->set_append("x");
  print("batch undone:", outcome([&] {
          send(*node.cache, &api::Cache::Stub::Batch, failing);
          return "done";
        }));
}

// Takes 6 from the counter and adds it to another, if nobody was faster; the second time it is not 6.
void transaction(Node& node, const std::string& prefix) {
  api::TxnRequest request;
  auto* compare = request.add_compares();
  compare->set_key(prefix + "count");
  compare->mutable_condition()->set_if_value("6");
  add_increment(request.add_then(), prefix + "count", -6);
  add_increment(request.add_then(), prefix + "other", 6);
  request.add_otherwise()->mutable_get()->set_key(prefix + "count");
  for (int i = 0; i < 2; i++) {
    *request.mutable_idempotency() = once();
    print("txn:", outcome([&] {
            const auto done = send(*node.cache, &api::Cache::Stub::Txn, request);
            return done.succeeded() ? "then " + std::to_string(done.results(1).increment().value())
                                    : "otherwise " + done.results(0).get().entry().value();
          }));
  }
}

void lock(Node& node, const std::string& prefix) {
  const std::string name = prefix + "lock";
  auto acquire = [&](const std::string& owner) {
    api::AcquireRequest request;
    request.set_name(name);
    request.set_owner(owner);
    request.mutable_ttl()->set_seconds(10);
    return send(*node.lock, &api::Lock::Stub::Acquire, request).token();
  };
  auto release = [&](const std::string& owner) {
    api::ReleaseRequest request;
    request.set_name(name);
    request.set_owner(owner);
    send(*node.lock, &api::Lock::Stub::Release, request);
  };
  auto fenced = [&](uint64_t token) {
    auto request = set(prefix + "guarded", "x");
    request.mutable_fence()->set_name(name);
    request.mutable_fence()->set_token(token);
    return outcome([&] { return "version " + std::to_string(write(node, request).version()); });
  };

  const auto first = acquire("first");
  print("fenced write:", fenced(first));
  print("lock held by another:", outcome([&] { return std::to_string(acquire("second")); }));
  release("first");
  const auto second = acquire("second");
  print("later token is larger:", second > first ? "true" : "false");
  print("stale fence:", fenced(first));
  print("fenced write:", fenced(second));
  release("second");
}

// Every change of a prefix from a revision on; goes on at another node when the one that serves it is gone.
class Changes {
 public:
  Changes(Nodes nodes, const std::string& prefix, uint64_t start) : nodes_(std::move(nodes)) {
    request_.set_prefix(prefix);
    request_.set_start_revision(start);
    open();
  }
  ~Changes() { context_->TryCancel(); }

  api::WatchEvent next() {
    while (received_.empty()) {
      api::WatchResponse response;
      if (reader_->Read(&response)) {
        received_.insert(received_.end(), response.events().begin(), response.events().end());
      } else if (const Failure failure(reader_->Finish()); failure.may_pass()) {
        open();
      } else {
        throw failure;
      }
    }
    auto event = received_.front();
    received_.pop_front();
    request_.set_start_revision(event.revision() + 1);
    return event;
  }

 private:
  // Opens the stream at the first node that accepts it.
  void open() {
    nodes_.call([this](Node& node) {
      reader_.reset();
      context_ = std::make_unique<grpc::ClientContext>();
      reader_ = node.watch->Watch(context_.get(), request_);
      api::WatchResponse created;
      if (!reader_->Read(&created)) throw Failure(reader_->Finish());
    });
  }

  Nodes nodes_;
  api::WatchRequest request_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReader<api::WatchResponse>> reader_;
  std::deque<api::WatchEvent> received_;
};

// Writes whatever happens to a node, once; returns the revision.
uint64_t put(Nodes& nodes, const std::string& key) {
  const auto request = set(key, "x");
  uint64_t revision = 0;
  nodes.call([&](Node& node) { revision = write(node, request).header().revision(); });
  return revision;
}

// Half of the writes before the leader is killed, half after; the watch was served by that leader.
void watch(Nodes& nodes, const std::string& prefix) {
  std::string leader;
  for (size_t i = 0; i < nodes.all.size(); i++) {
    const auto status = send(*nodes.all[i]->cluster, &api::Cluster::Stub::Status, api::StatusRequest());
    leader = status.header().leader();
    if (status.header().node() == leader) nodes.first = i;
  }
  uint64_t last = put(nodes, prefix + "before");
  Changes changes(nodes, prefix, last + 1);
  std::vector<std::string> keys;
  auto half = [&](int from, int to) {
    for (int i = from; i < to; i++) {
      std::ostringstream key;
      key << prefix << std::setw(2) << std::setfill('0') << i;
      keys.push_back(key.str());
      put(nodes, keys.back());
    }
    for (int i = from; i < to; i++) {
      const auto event = changes.next();
      ensure(event.key() == keys[i], "a gap, or out of order: " + event.key());
      ensure(event.revision() > last, "revisions do not increase");
      last = event.revision();
    }
  };
  half(0, kEvents / 2);
  print("kill", leader);
  std::string line;
  std::getline(std::cin, line);
  half(kEvents / 2, kEvents);
  print("watch:", keys.size(), "events in order over a leader kill");
}

}  // namespace

int main(int count_of_arguments, char** arguments) {
  const std::string prefix = arguments[2], ca_file = count_of_arguments > 3 ? arguments[3] : "";
  const char* variable = std::getenv("REPLCACHE_TOKEN");
  const std::string token = variable == nullptr ? "" : variable;
  std::vector<std::string> addresses;
  std::istringstream list(arguments[1]);
  for (std::string address; std::getline(list, address, ',');) addresses.push_back(address);

  Nodes nodes;
  for (const auto& address : addresses) nodes.all.push_back(std::make_shared<Node>(address, ca_file, token));
  read_and_write(nodes, prefix + "user");
  refusals(*nodes.all[1], prefix);
  count(nodes, prefix);
  many_at_once(*nodes.all[2], prefix);
  transaction(*nodes.all[1], prefix);
  lock(*nodes.all[0], prefix);
  if (!token.empty()) {
    Node stranger(addresses[0], ca_file, "");
    print("no token:", outcome([&] { return read(stranger, get(prefix)).entry().value(); }));
    print("no right:", outcome([&] { return read(*nodes.all[0], get("not/ours")).entry().value(); }));
  }
  watch(nodes, prefix + "watch/");
}
