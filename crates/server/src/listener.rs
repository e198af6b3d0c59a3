//! The socket: bounded connections, deadlines for slow peers, and a shutdown that lets streams
//! finish.

use crate::app::App;
use crate::callers::{CallerConnection, is_trusted};
use crate::error::ServerError;
use crate::history::SAMPLE_EVERY;
use crate::process::release_after_requests;
use crate::socket::ImpatientSocket;
use crate::wyoming;
use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;
use tower::ServiceExt;

/// Interval between idle checks.
const IDLE_LOOK: Duration = Duration::from_secs(5);
/// Interval between checks that the engine is alive.
const REVIVE_EVERY: Duration = Duration::from_secs(1);
/// Pause after a failed accept, as when the process is out of file descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time that ended streams have to send their last message.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Backlog of the listening socket.
const BACKLOG: u32 = 1024;
/// Limit on a request's headers, including read-ahead.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Send buffer of a connection. The system's default would hold minutes of speech.
const SEND_BUFFER_BYTES: u32 = 256 << 10;
/// Receive buffer of a connection.
const RECEIVE_BUFFER_BYTES: u32 = 256 << 10;

/// Deadline for the headers on a connection above the limit.
const SPARE_RECEIVE: Duration = Duration::from_secs(2);
/// Connections accepted above the limit, so that a health check gets an answer. They are
/// short-lived.
const SPARE_CONNECTIONS: usize = 32;

/// A connection's share of the limit. Its socket keeps it, also as a WebSocket.
pub(crate) struct ConnectionShare {
    _permit: OwnedSemaphorePermit,
    /// `None` if a proxy's connection serves many callers.
    _of_caller: Option<CallerConnection>,
}

/// Why a connection has no share. It gets one response and is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server's limit is reached.
    Server,
    /// The caller's limit is reached.
    Caller,
    /// The server is stopping.
    Stopping,
}

impl Refusal {
    pub(crate) fn error(self) -> ServerError {
        let (status, reason) = match self {
            Refusal::Server => (
                StatusCode::SERVICE_UNAVAILABLE,
                "as many connections are open as may be",
            ),
            Refusal::Caller => (
                StatusCode::TOO_MANY_REQUESTS,
                "this address holds as many connections as it may",
            ),
            Refusal::Stopping => return ServerError::Stopping,
        };
        ServerError::Overloaded { status, reason }
    }
}

/// Connections without a share, oldest first. A new one evicts the oldest.
#[derive(Default)]
struct SpareConnections(VecDeque<AbortHandle>);

/// Takes a share for a new connection of `peer`; otherwise returns the reason.
pub(crate) fn share(app: &App, peer: IpAddr) -> Result<ConnectionShare, Refusal> {
    let of_caller = if is_trusted(peer, &app.options.trusted_proxies) {
        None
    } else {
        let most = app.options.limits.connections_per_caller;
        Some(app.connections.take(peer, most).ok_or(Refusal::Caller)?)
    };
    let permit = app.connection_places.clone().try_acquire_owned();
    Ok(ConnectionShare {
        _permit: permit.map_err(|_| Refusal::Server)?,
        _of_caller: of_caller,
    })
}

impl SpareConnections {
    /// Adds a connection without a share.
    fn push(&mut self, connection: AbortHandle) {
        self.0.retain(|connection| !connection.is_finished());
        if self.0.len() >= SPARE_CONNECTIONS
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// HTTP and WebSocket.
    pub http: SocketAddr,
    /// Wyoming, if it is served.
    pub wyoming: Option<SocketAddr>,
}

/// Serves until `stop` completes. Then it refuses new work with 503 and still answers probes, lets
/// streams finish within the limit, and ends the rest. Calls `listening` with the addresses once
/// connections are accepted.
///
/// # Errors
/// If an option has a value that is not allowed, an address cannot be listened on, or the service
/// cannot be announced. Errors of single connections and requests are logged, not returned.
pub async fn serve(
    app: Arc<App>,
    listening: impl FnOnce(Addresses),
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    app.options.check()?;
    let address = app.options.address;
    let failed = |source| ServerError::Listen { address, source };
    let listener = listen(address).map_err(failed)?;
    let http = listener.local_addr().map_err(failed)?;
    let wyoming = match app.options.wyoming {
        None => None,
        Some(address) => {
            let listener = wyoming::bind(address)?;
            let failed = |source| ServerError::Listen { address, source };
            Some((listener.local_addr().map_err(failed)?, listener))
        }
    };
    let wyoming_address = wyoming.as_ref().map(|(address, _)| *address);
    let announcement = match (&app.options.announce, wyoming_address) {
        (Some(name), Some(address)) => Some(wyoming::Announcement::new(name, address)?),
        _ => None,
    };
    let wyoming = wyoming.map(|(_, listener)| tokio::spawn(wyoming::serve(app.clone(), listener)));
    listening(Addresses {
        http,
        wyoming: wyoming_address,
    });
    let mut spare = SpareConnections::default();
    let router = app.router();
    let idle = app
        .options
        .idle_unload
        .map(|idle| tokio::spawn(unload_when_idle(app.clone(), idle)));
    let releasing = tokio::spawn(release_after_requests(app.clone()));
    let reviving = tokio::spawn(revive(app.clone()));
    let sampling = tokio::spawn(sample_memory(app.clone()));
    tokio::pin!(stop);
    loop {
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
        let share = share(&app, peer.ip());
        let beyond = share.is_err();
        let served = connection(&app, &router, socket, peer, share);
        if beyond {
            spare.push(served);
        }
    }
    if let Some(wyoming) = wyoming {
        wyoming.abort();
    }
    app.stop();
    if let Some(announcement) = announcement {
        // It waits for the network.
        let _ = tokio::task::spawn_blocking(move || drop(announcement)).await;
    }
    releasing.abort();
    reviving.abort();
    sampling.abort();
    if let Some(idle) = idle {
        idle.abort();
    }
    let turning_away = async {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    let refusal = Err(Refusal::Stopping);
                    spare.push(connection(&app, &router, socket, peer, refusal));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = finish_streams(&app) => Ok(()),
        () = turning_away => Ok(()),
    }
}

/// Waits until the connections from before the stop have ended. Streams beyond the limit are ended.
async fn finish_streams(app: &App) {
    let grace = app.options.limits.shutdown_time;
    let ended = app.connections_ended();
    tokio::pin!(ended);
    if tokio::time::timeout(grace, &mut ended).await.is_err() {
        tracing::warn!(seconds = grace.as_secs(), "streams under way are ended");
        app.host.end_streams();
        let _ = tokio::time::timeout(LAST_WORDS, &mut ended).await;
    }
}

/// A listening socket whose connections have bounded buffers.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // On Unix, a restarted server can reuse its port at once. Elsewhere, the option would let two
    // servers share it.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn connection(
    app: &Arc<App>,
    router: &Router,
    socket: TcpStream,
    peer: SocketAddr,
    share: Result<ConnectionShare, Refusal>,
) -> AbortHandle {
    // Sound is sent in small packets, which must not wait for each other.
    let _ = socket.set_nodelay(true);
    let limits = &app.options.limits;
    let (receive, slow_reader) = match &share {
        Ok(_) => (limits.receive_time, limits.slow_reader_time),
        Err(_) => (
            limits.receive_time.min(SPARE_RECEIVE),
            limits.slow_reader_time.min(SPARE_RECEIVE),
        ),
    };
    let refusal = share.as_ref().err().copied();
    let socket = ImpatientSocket::new(socket, share.ok(), slow_reader);
    let router = router.clone();
    let service = TowerToHyperService::new(tower::service_fn(
        move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(axum::body::Body::new);
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(peer));
            if let Some(refusal) = refusal {
                extensions.insert(refusal);
            }
            let router = router.clone();
            async move {
                let mut response = router.oneshot(request).await?;
                // A connection over the limit gets one response. An upgraded connection closes by
                // itself.
                if refusal.is_some() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        },
    ));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(receive)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    // The stop waits for no connection that came after it.
    let mut stopping = (refusal != Some(Refusal::Stopping)).then(|| app.connection());
    let ended = EndedOnDrop(app.clone());
    tokio::spawn(async move {
        let _ended = ended;
        tokio::pin!(served);
        let stopped = async {
            match &mut stopping {
                Some(stopping) => drop(stopping.wait_for(|stopping| *stopping).await),
                None => std::future::pending().await,
            }
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
    })
    .abort_handle()
}

/// Tells the app on drop that a connection has ended, even if it was aborted.
struct EndedOnDrop(Arc<App>);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

async fn revive(app: Arc<App>) {
    let mut look = tokio::time::interval(REVIVE_EVERY);
    loop {
        look.tick().await;
        app.host.revive().await;
    }
}

async fn sample_memory(app: Arc<App>) {
    let mut look = tokio::time::interval(SAMPLE_EVERY);
    loop {
        look.tick().await;
        app.sample_memory();
    }
}

async fn unload_when_idle(app: Arc<App>, idle: Duration) {
    let mut look = tokio::time::interval(IDLE_LOOK.min(idle));
    loop {
        look.tick().await;
        app.unload_when_idle(idle).await;
    }
}
