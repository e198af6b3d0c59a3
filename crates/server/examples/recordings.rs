//! A server whose model supports voices from recordings, without a download. The model is tiny and
//! its weights are random, so it murmurs. For tests of clients' voice management.
//!
//! ```console
//! $ cargo run --release -p sottovoce-server --example recordings -- --voices /tmp/voices
//! ```

use clap::Parser;
use serde_json::json;
use sottovoce::{ModelConfig, Source};
use sottovoce_server::{Addresses, App, ServerOptions, serve};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

#[derive(Parser)]
struct Arguments {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Folder for uploaded voices.
    #[arg(long)]
    voices: PathBuf,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let app = App::new(ServerOptions {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port)),
        source: Source::Random(Box::new(ModelConfig::tiny_base())),
        model_name: "tiny".into(),
        voices_directory: Some(arguments.voices),
        ..ServerOptions::default()
    });
    app.load().await?;
    let listening = |addresses: Addresses| {
        println!("{}", json!({ "address": addresses.http.to_string() }));
    };
    serve(app, listening, async {
        // The parent process ends the server by a signal.
        let _ = tokio::signal::ctrl_c().await;
    })
    .await?;
    Ok(())
}
