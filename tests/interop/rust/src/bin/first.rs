//! Stores a value and reads it back. Usage: first 127.0.0.1:7401
use interop::pb::replcache::v1::{GetRequest, Idempotency, SetRequest, cache_client::CacheClient};
use prost_types::Duration;
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).ok_or("which address?")?;
    let mut cache = CacheClient::connect(format!("http://{address}")).await?;

    cache
        .set(SetRequest {
            key: b"greeting".to_vec(),
            value: b"hello".to_vec(),
            content_type: "text/plain".into(),
            ttl: Some(Duration { seconds: 600, nanos: 0 }),
            // A new one for each write, the same for its retries.
            idempotency: Some(Idempotency { request_id: Uuid::new_v4().into(), ..Default::default() }),
            ..Default::default()
        })
        .await?;

    let request = GetRequest { key: b"greeting".to_vec(), read: None };
    let entry = cache.get(request).await?.into_inner().entry.ok_or("no such key")?;
    println!("{} version {}", String::from_utf8(entry.value)?, entry.version);
    Ok(())
}
