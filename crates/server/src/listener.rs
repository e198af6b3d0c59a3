//! The socket: bounded connections, deadlines for slow peers, and an end that lets streams finish.

use crate::app::App;
use crate::error::ServerError;
use crate::socket::ImpatientSocket;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::ServiceExt;

/// Between two looks at whether the model rests.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// After a failed accept, as when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long what is ended may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Connections that the system may hold until they are taken.
const BACKLOG: u32 = 1024;
/// Bytes of a request's head, and of what is read ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes that the system may hold for a reader: left to itself it would take in minutes of speech.
const SEND_BUFFER_BYTES: u32 = 256 << 10;

/// A connection's share of the connections that may be open. A WebSocket outlives the HTTP exchange that it began as and keeps it.
#[derive(Clone)]
pub(crate) struct ConnectionShare {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Serves until `stop` completes, then refuses new work, lets streams finish within the limit, and ends the rest.
/// `listening` is called with the address once connections are taken.
pub async fn serve(
    app: Arc<App>,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let address = app.options.address;
    let failed = |source| ServerError::Listen { address, source };
    let listener = listen(address).map_err(failed)?;
    listening(listener.local_addr().map_err(failed)?);
    let connections = Arc::new(Semaphore::new(app.options.limits.connections));
    let router = app.router();
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
        connection(&app, &router, socket, peer, permit);
    }
    drop(listener);
    app.stop();
    if let Some(idle) = idle {
        idle.abort();
    }
    let grace = app.options.limits.shutdown;
    let ended = app.connections_ended();
    tokio::pin!(ended);
    if tokio::time::timeout(grace, &mut ended).await.is_err() {
        tracing::warn!(seconds = grace.as_secs(), "streams under way are ended");
        app.host.end_streams();
        let _ = tokio::time::timeout(LAST_WORDS, &mut ended).await;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A server that starts again takes its port at once; elsewhere the option means that two may share it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn connection(
    app: &Arc<App>,
    router: &Router,
    socket: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    // Sound leaves in small pieces that must not wait for each other.
    let _ = socket.set_nodelay(true);
    let limits = &app.options.limits;
    let socket = ImpatientSocket::new(socket, limits.slow_reader);
    let share = ConnectionShare {
        _permit: Arc::new(permit),
    };
    let router = router.clone();
    let service = TowerToHyperService::new(tower::service_fn(
        move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(share.clone());
            router.clone().oneshot(request)
        },
    ));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.receive)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut stopping = app.connection();
    tokio::spawn(async move {
        tokio::pin!(served);
        let stopped = async {
            let _ = stopping.wait_for(|stopping| *stopping).await;
        };
        let ended = tokio::select! {
            ended = served.as_mut() => ended,
            () = stopped => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection ended early");
        }
    });
}

async fn unload_when_idle(app: Arc<App>, idle: Duration) {
    let mut look = tokio::time::interval(IDLE_LOOK.min(idle));
    loop {
        look.tick().await;
        app.unload_when_idle(idle).await;
    }
}
