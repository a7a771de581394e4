//! `GET /` answers with a short JSON, on a port of loopback that is printed.
use axum::{Json, Router, routing::get};
use serde::Serialize;

#[derive(Serialize)]
struct Hello {
    hello: &'static str,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let app = Router::new().route("/", get(|| async { Json(Hello { hello: "world" }) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await
}
