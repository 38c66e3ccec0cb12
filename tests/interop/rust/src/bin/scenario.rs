//! The scenario that every language runs. Usage: scenario ADDRESS,ADDRESS,... PREFIX [CA_FILE]
//!
//! The token, if any, is in REPLCACHE_TOKEN. Prints one line a step; after `kill NODE` it waits for a line.

use std::fmt::Display;

use interop::pb::replcache::v1::{
    AcquireRequest, BatchRequest, Compare, Condition, DeleteRequest, Fence, GetRequest, IncrementRequest, Operation,
    ReadLevel, ReadOptions, ReleaseRequest, SetRequest, StatusRequest, TxnRequest, UpdateRequest, WatchEvent,
    WatchRequest, WatchResponse, operation, operation_result, update_request, watch_request,
};
use interop::{Error, Node, Nodes, may_pass, once, reason, token};
use prost_types::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tonic::{Status, Streaming};

const EVENTS: usize = 20;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().collect();
    let (addresses, prefix) = (&arguments[1], arguments[2].as_str());
    let ca_file = arguments.get(3).map(String::as_str);
    let token = token();
    let connect = |address: &str| Node::new(address, ca_file, token.as_deref());
    let all = addresses.split(',').map(connect).collect::<Result<Vec<_>, _>>()?;

    read_and_write(&all, &format!("{prefix}user")).await?;
    refusals(&all[1], prefix).await;
    count(&all, prefix).await?;
    many_at_once(&all[2], prefix).await?;
    transaction(&all[1], prefix).await;
    lock(&all[0], prefix).await?;
    if token.is_some() {
        let address = addresses.split(',').next().ok_or("no address")?;
        let mut stranger = Node::new(address, ca_file, None)?;
        println!("no token: {}", outcome(stranger.cache.get(get(prefix)).await.map(|_| "served")));
        println!("no right: {}", outcome(all[0].cache.clone().get(get("not/ours")).await.map(|_| "served")));
    }
    let watching = Watching { nodes: Nodes { all, first: 0 }, prefix: format!("{prefix}watch/") };
    watching.run().await?;
    Ok(())
}

async fn read_and_write(nodes: &[Node], key: &str) -> Result<(), Error> {
    let [one, two, three] = nodes else {
        return Err("three nodes, please".into());
    };
    let request = SetRequest {
        content_type: "application/json".into(),
        ttl: Some(seconds(600)),
        ..set(key, r#"{"name":"Ada"}"#)
    };
    let written = one.cache.clone().set(request).await?.into_inner();
    println!("set: version {}", written.version);

    let entry = two.cache.clone().get(get(key)).await?.into_inner().entry.ok_or("absent")?;
    println!("get linearizable: {} {}", text(&entry.value), entry.content_type);

    let revision = written.header.ok_or("no header")?.revision;
    let session = ReadOptions { level: ReadLevel::Session.into(), min_revision: revision, ..Default::default() };
    let request = GetRequest { read: Some(session), ..get(key) };
    let own = three.cache.clone().get(request).await?.into_inner();
    assert!(own.header.ok_or("no header")?.revision >= revision);
    println!("get session: {}", text(&own.entry.ok_or("absent")?.value));

    let local = ReadOptions { level: ReadLevel::One.into(), max_staleness: Some(seconds(2)), ..Default::default() };
    let request = GetRequest { read: Some(local), ..get(key) };
    let near = one.cache.clone().get(request).await?.into_inner();
    let staleness = near.header.and_then(|header| header.staleness).ok_or("no bound")?;
    assert!(staleness.seconds as f64 + f64::from(staleness.nanos) / 1e9 <= 2.0);
    println!("get one: {}", text(&near.entry.ok_or("absent")?.value));

    let missing = one.cache.clone().get(get(&format!("{key}/none"))).await?.into_inner();
    println!("get missing: {}", if missing.entry.is_some() { "present" } else { "absent" });

    let merge = update_request::Change::MergeJson(br#"{"admin":true}"#.to_vec());
    let merged = one.cache.clone().update(update(key, merge)).await?.into_inner();
    let entry = merged.entry.ok_or("no entry")?;
    println!("update: {} version {}", text(&entry.value), entry.version);
    Ok(())
}

async fn refusals(node: &Node, prefix: &str) {
    let mut cache = node.cache.clone();
    let append = update_request::Change::Append(b"x".to_vec());
    let missing = cache.update(update(&format!("{prefix}none"), append)).await;
    println!("update missing: {}", outcome(missing.map(|_| "done")));
    let condition = Some(Condition { if_absent: true, ..Default::default() });
    let create = SetRequest { condition, ..set(&format!("{prefix}user"), "") };
    println!("set if absent: {}", outcome(cache.set(create).await.map(|_| "done")));
    let long = format!("{prefix}{}", "x".repeat(1024));
    println!("key too long: {}", outcome(cache.set(set(&long, "")).await.map(|_| "done")));
}

/// The same request sent twice, to two nodes, counts once.
async fn count(nodes: &[Node], prefix: &str) -> Result<(), Error> {
    let five = IncrementRequest { idempotency: once(), ..increment(&format!("{prefix}count"), 5) };
    let first = nodes[0].cache.clone().increment(five.clone()).await?.into_inner();
    let second = nodes[1].cache.clone().increment(five).await?.into_inner();
    println!("increment twice with one request id: {} {}", first.value, second.value);
    Ok(())
}

async fn many_at_once(node: &Node, prefix: &str) -> Result<(), Error> {
    use operation::Kind;
    use operation_result::Kind as Done;
    let key = format!("{prefix}a");
    let batch = |operations: Vec<Kind>| BatchRequest {
        atomic: true,
        idempotency: once(),
        operations: as_operations(operations),
        ..Default::default()
    };
    let good = batch(vec![
        Kind::Set(SetRequest { idempotency: None, ..set(&key, "1") }),
        Kind::Increment(increment(&format!("{prefix}count"), 1)),
        Kind::Get(get(&key)),
    ]);
    let results = node.cache.clone().batch(good).await?.into_inner().results;
    let kinds: Vec<_> = results.into_iter().filter_map(|result| result.kind).collect();
    let [Done::Set(written), Done::Increment(counter), Done::Get(read)] = kinds.as_slice() else {
        return Err(format!("other results: {kinds:?}").into());
    };
    let value = read.entry.as_ref().map_or("absent".into(), |entry| text(&entry.value));
    println!("batch: {} {} {value}", written.version, counter.value);

    let append = update_request::Change::Append(b"x".to_vec());
    let failing = batch(vec![
        Kind::Delete(DeleteRequest { key: key.into(), ..Default::default() }),
        Kind::Update(update(&format!("{prefix}none"), append)),
    ]);
    println!("batch undone: {}", outcome(node.cache.clone().batch(failing).await.map(|_| "done")));
    Ok(())
}

/// Takes 6 from the counter and adds it to another, if nobody was faster; the second time it is not 6.
async fn transaction(node: &Node, prefix: &str) {
    use operation::Kind;
    use operation_result::Kind as Done;
    let counter = format!("{prefix}count");
    for _ in 0..2 {
        let condition = Some(Condition { if_value: Some(b"6".to_vec()), ..Default::default() });
        let request = TxnRequest {
            compares: vec![Compare { key: counter.clone().into(), condition }],
            then: as_operations(vec![
                Kind::Increment(increment(&counter, -6)),
                Kind::Increment(increment(&format!("{prefix}other"), 6)),
            ]),
            otherwise: as_operations(vec![Kind::Get(get(&counter))]),
            idempotency: once(),
            ..Default::default()
        };
        let done = node.cache.clone().txn(request).await.map(|response| {
            let done = response.into_inner();
            let name = if done.succeeded { "then" } else { "otherwise" };
            let value = match done.results.into_iter().last().and_then(|result| result.kind) {
                Some(Done::Increment(counter)) => counter.value.to_string(),
                Some(Done::Get(read)) => text(&read.entry.unwrap_or_default().value),
                other => format!("{other:?}"),
            };
            format!("{name} {value}")
        });
        println!("txn: {}", outcome(done));
    }
}

async fn lock(node: &Node, prefix: &str) -> Result<(), Error> {
    let name = &format!("{prefix}lock");
    let acquire = async |owner: &str| {
        let request =
            AcquireRequest { name: name.clone(), owner: owner.into(), ttl: Some(seconds(10)), ..Default::default() };
        let granted = node.lock.clone().acquire(request).await?;
        Ok::<u64, Status>(granted.into_inner().token)
    };
    let release = async |owner: &str| {
        let request = ReleaseRequest { name: name.clone(), owner: owner.into(), token: 0 };
        node.lock.clone().release(request).await
    };
    let write = async |token: u64| {
        let fence = Some(Fence { name: name.clone(), token });
        let request = SetRequest { fence, ..set(&format!("{prefix}guarded"), "x") };
        let written = node.cache.clone().set(request).await;
        outcome(written.map(|response| format!("version {}", response.into_inner().version)))
    };

    let first = acquire("first").await?;
    println!("fenced write: {}", write(first).await);
    println!("lock held by another: {}", outcome(acquire("second").await));
    release("first").await?;
    let second = acquire("second").await?;
    println!("later token is larger: {}", second > first);
    println!("stale fence: {}", write(first).await);
    println!("fenced write: {}", write(second).await);
    release("second").await?;
    Ok(())
}

/// Half of the writes before the leader is killed, half after; the watch was served by that leader.
struct Watching {
    nodes: Nodes,
    prefix: String,
}

impl Watching {
    async fn run(mut self) -> Result<(), Error> {
        let mut leader = String::new();
        for number in 0..self.nodes.all.len() {
            let status = self.nodes.all[number].cluster.status(StatusRequest {}).await?;
            let header = status.into_inner().header.ok_or("no header")?;
            if header.node == header.leader {
                self.nodes.first = number;
            }
            leader = header.leader;
        }
        let keys: Vec<_> = (0..EVENTS).map(|number| format!("{}{number:02}", self.prefix)).collect();
        let before = format!("{}before", self.prefix);
        let base = self.put(&before).await?;

        let mut changes = Changes::new(self.nodes.clone(), self.prefix.clone(), base + 1);
        changes.open().await?;
        let mut seen = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            if number == EVENTS / 2 {
                seen.extend(changes.take(EVENTS / 2).await?);
                println!("kill {leader}");
                BufReader::new(stdin()).read_line(&mut String::new()).await?;
            }
            self.put(key).await?;
        }
        seen.extend(changes.take(EVENTS / 2).await?);

        let names: Vec<_> = seen.iter().map(|event| text(&event.key)).collect();
        assert_eq!(names, keys);
        assert!(seen.is_sorted_by(|one, next| one.revision < next.revision));
        println!("watch: {} events in order over a leader kill", seen.len());
        Ok(())
    }

    /// Writes whatever happens to a node, once; returns the revision.
    async fn put(&mut self, key: &str) -> Result<u64, Error> {
        let request = &set(key, "x");
        let ask = |mut node: Node| async move { node.cache.set(request.clone()).await };
        let written = self.nodes.call(ask).await?.into_inner();
        Ok(written.header.ok_or("no header")?.revision)
    }
}

/// Every change of a prefix from a revision on; goes on at another node when the one that serves it is gone.
struct Changes {
    nodes: Nodes,
    prefix: String,
    start: u64,
    stream: Option<Streaming<WatchResponse>>,
    received: std::collections::VecDeque<WatchEvent>,
}

impl Changes {
    fn new(nodes: Nodes, prefix: String, start: u64) -> Self {
        Self { nodes, prefix, start, stream: None, received: Default::default() }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<WatchEvent>, Status> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.next().await?);
        }
        Ok(taken)
    }

    async fn next(&mut self) -> Result<WatchEvent, Status> {
        loop {
            if let Some(event) = self.received.pop_front() {
                self.start = event.revision + 1;
                return Ok(event);
            }
            match self.stream.as_mut() {
                None => self.open().await?,
                Some(stream) => match stream.message().await {
                    Ok(Some(response)) => self.received.extend(response.events),
                    Ok(None) => self.stream = None,
                    Err(status) if may_pass(&status) => self.stream = None,
                    Err(status) => return Err(status),
                },
            }
        }
    }

    /// Opens the stream at the first node that accepts it.
    async fn open(&mut self) -> Result<(), Status> {
        let request = &WatchRequest {
            range: Some(watch_request::Range::Prefix(self.prefix.clone().into())),
            start_revision: self.start,
            ..Default::default()
        };
        let ask = |mut node: Node| async move { node.watch.watch(request.clone()).await };
        self.stream = Some(self.nodes.call(ask).await?.into_inner());
        Ok(())
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest { key: key.into(), read: None }
}

/// A write with its own request id.
fn set(key: &str, value: &str) -> SetRequest {
    SetRequest { key: key.into(), value: value.into(), idempotency: once(), ..Default::default() }
}

fn update(key: &str, change: update_request::Change) -> UpdateRequest {
    UpdateRequest { key: key.into(), change: Some(change), idempotency: once(), ..Default::default() }
}

fn increment(key: &str, delta: i64) -> IncrementRequest {
    IncrementRequest { key: key.into(), delta, ..Default::default() }
}

fn as_operations(kinds: Vec<operation::Kind>) -> Vec<Operation> {
    kinds.into_iter().map(|kind| Operation { kind: Some(kind) }).collect()
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What the call brought, or why it was refused.
fn outcome<T: Display>(result: Result<T, Status>) -> String {
    result.map_or_else(|status| reason(&status), |value| value.to_string())
}
