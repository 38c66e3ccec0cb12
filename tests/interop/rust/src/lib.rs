//! What every program needs: connections to all nodes, retries that execute once, and the reason of an error.

use std::{env, future::Future, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::metadata::MetadataValue;
use tonic::service::{Interceptor, interceptor::InterceptedService};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

/// Made from the .proto files by build.rs.
pub mod pb {
    tonic::include_proto!("protos");
}
use api::{
    Idempotency, cache_client::CacheClient, cluster_client::ClusterClient, lock_client::LockClient,
    watch_client::WatchClient,
};
use pb::replcache::v1 as api;

pub type Error = Box<dyn std::error::Error>;

const TRY_TIMEOUT: Duration = Duration::from_secs(5);
const GIVE_UP: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);

/// Sends a deadline, and the token if there is one, with every call.
#[derive(Clone)]
pub struct Headers {
    token: Option<String>,
    timeout: Option<Duration>,
}

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.token {
            let bearer = MetadataValue::try_from(format!("Bearer {token}"));
            let bearer = bearer.map_err(|_| Status::unauthenticated("the token is no header"))?;
            request.metadata_mut().insert("authorization", bearer);
        }
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        Ok(request)
    }
}

pub type Service = InterceptedService<Channel, Headers>;

/// The services of one node.
#[derive(Clone)]
pub struct Node {
    pub cache: CacheClient<Service>,
    pub lock: LockClient<Service>,
    pub cluster: ClusterClient<Service>,
    pub watch: WatchClient<Service>,
}

impl Node {
    /// Connects when it is first used.
    pub fn new(address: &str, ca_file: Option<&str>, token: Option<&str>) -> Result<Self, Error> {
        let channel = match ca_file {
            None => Endpoint::new(format!("http://{address}"))?,
            Some(file) => {
                let authority = Certificate::from_pem(std::fs::read(file)?);
                let tls = ClientTlsConfig::new().ca_certificate(authority);
                Endpoint::new(format!("https://{address}"))?.tls_config(tls)?
            }
        }
        .connect_lazy();
        let token = token.map(String::from);
        let service = |timeout| {
            let headers = Headers { token: token.clone(), timeout };
            InterceptedService::new(channel.clone(), headers)
        };
        Ok(Self {
            cache: CacheClient::new(service(Some(TRY_TIMEOUT))),
            lock: LockClient::new(service(Some(TRY_TIMEOUT))),
            cluster: ClusterClient::new(service(Some(TRY_TIMEOUT))),
            watch: WatchClient::new(service(None)),
        })
    }
}

/// All nodes.
#[derive(Clone)]
pub struct Nodes {
    pub all: Vec<Node>,
    pub first: usize,
}

impl Nodes {
    /// Asks one node after another until one answers. `ask` must send the same request each time: after a failure
    /// that may pass it is called again, which is safe for reads and for writes with a request id.
    pub async fn call<T, F>(&mut self, ask: impl Fn(Node) -> F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let end = Instant::now() + GIVE_UP;
        loop {
            match ask(self.all[self.first].clone()).await {
                Err(status) if may_pass(&status) && Instant::now() < end => {
                    self.first = (self.first + 1) % self.all.len();
                    sleep(PAUSE).await;
                }
                done => return done,
            }
        }
    }
}

/// Another node, or the same one a little later, may well answer.
pub fn may_pass(status: &Status) -> bool {
    // Unknown and Cancelled: how this library reports a connection that broke under a call.
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled)
}

/// Names one write: however often it is sent with this, it is executed once.
pub fn once() -> Option<Idempotency> {
    Some(Idempotency { request_id: Uuid::new_v4().into(), ..Default::default() })
}

/// What ErrorInfo says; the gRPC code where no node has answered.
pub fn reason(status: &Status) -> String {
    match status.get_details_error_info() {
        Some(info) => {
            let executed = info.metadata.get("may_have_executed").map_or("", String::as_str);
            format!("{} may_have_executed={executed}", info.reason)
        }
        None => format!("{:?}", status.code()),
    }
}

/// The token that the caller of this program has for it.
pub fn token() -> Option<String> {
    env::var("REPLCACHE_TOKEN").ok().filter(|token| !token.is_empty())
}
