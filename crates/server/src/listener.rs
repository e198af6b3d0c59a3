//! The socket: bounded connections, deadlines for slow senders, and an end that lets streams finish.

use crate::app::App;
use crate::error::ServerError;
use axum::extract::ConnectInfo;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

/// Between two looks at whether the model rests.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// After a failed accept, as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` completes, then refuses new work, lets streams finish within the limit, and ends the rest.
/// `listening` is called with the address once connections are taken.
pub async fn serve(
    app: Arc<App>,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let address = app.options.address;
    let failed = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    listening(listener.local_addr().map_err(failed)?);
    let connections = Arc::new(Semaphore::new(app.options.limits.connections));
    let graceful = GracefulShutdown::new();
    let idle = app
        .options
        .idle_unload
        .map(|idle| tokio::spawn(unload_when_idle(app.clone(), idle)));
    tokio::pin!(stop);
    loop {
        let permit = tokio::select! {
            permit = connections.clone().acquire_owned() => permit.map_err(|_| ServerError::Stopping)?,
            () = &mut stop => break,
        };
        let (socket, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = &mut stop => break,
        };
        connection(&app, &graceful, socket, peer, permit);
    }
    drop(listener);
    app.stop();
    if let Some(idle) = idle {
        idle.abort();
    }
    let grace = app.options.limits.shutdown;
    let ended = graceful.shutdown();
    tokio::pin!(ended);
    if tokio::time::timeout(grace, &mut ended).await.is_err() {
        tracing::warn!(seconds = grace.as_secs(), "streams under way are ended");
        app.host.end_streams();
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut ended).await;
    }
    Ok(())
}

fn connection(
    app: &Arc<App>,
    graceful: &GracefulShutdown,
    socket: TcpStream,
    peer: SocketAddr,
    permit: tokio::sync::OwnedSemaphorePermit,
) {
    // Sound leaves in small pieces that must not wait for each other.
    let _ = socket.set_nodelay(true);
    let router = app.router();
    let service = hyper_util::service::TowerToHyperService::new(tower::service_fn(
        move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request)
        },
    ));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(app.options.limits.receive)
        .max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    let served = builder
        .serve_connection_with_upgrades(TokioIo::new(socket), service)
        .into_owned();
    let served = graceful.watch(served);
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
        drop(permit);
    });
}

async fn unload_when_idle(app: Arc<App>, idle: Duration) {
    let mut look = tokio::time::interval(IDLE_LOOK.min(idle));
    loop {
        look.tick().await;
        app.host.unload_when_idle(idle).await;
    }
}
