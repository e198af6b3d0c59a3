//! A socket with a deadline for its reader, and a close that loses nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

/// Deadline for the peer to close after the socket was dropped.
const LINGER: Duration = Duration::from_secs(1);

/// A socket whose writes fail if they make no progress for too long, so that a dead or unwilling
/// reader holds no resources.
///
/// It lingers when dropped: input that nobody read is discarded until the peer closes, because the
/// system would reset a connection with unread input before the peer has read the last message
/// (RFC 9112, section 9.6). `held` is kept that long; without it, the socket closes at once.
pub(crate) struct ImpatientSocket<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Send + 'static,
{
    /// `None` only while it is dropped.
    socket: Option<S>,
    held: Option<H>,
    patience: Duration,
    /// Armed while a write is pending.
    deadline: Option<Pin<Box<Sleep>>>,
    /// The peer closed, or cannot be reached.
    ended: bool,
}

impl<S, H> ImpatientSocket<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Send + 'static,
{
    pub(crate) fn new(socket: S, held: Option<H>, patience: Duration) -> ImpatientSocket<S, H> {
        ImpatientSocket {
            socket: Some(socket),
            held,
            patience,
            deadline: None,
            ended: false,
        }
    }

    fn write_within<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = write(Pin::new(socket), context);
        if let Poll::Ready(written) = written {
            self.deadline = None;
            self.ended |= written.is_err();
            return Poll::Ready(written);
        }
        let patience = self.patience;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(deadline.as_mut().poll(context));
        self.ended = true;
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the peer does not read",
        )))
    }
}

impl<S, H> Drop for ImpatientSocket<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Send + 'static,
{
    fn drop(&mut self) {
        let (Some(socket), Some(held), false) = (self.socket.take(), self.held.take(), self.ended)
        else {
            return;
        };
        // Outside of a runtime, the process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = timeout(LINGER, discard(socket)).await;
                drop(held);
            });
        }
    }
}

/// Sends the end of the stream, and reads until the peer does the same.
async fn discard(mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    socket.shutdown().await?;
    let mut unread = [0; 4096];
    while socket.read(&mut unread).await? > 0 {}
    Ok(())
}

impl<S, H> AsyncRead for ImpatientSocket<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Send + Unpin + 'static,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Ok(()));
        };
        let (filled, room) = (buffer.filled().len(), buffer.remaining());
        let read = ready!(Pin::new(socket).poll_read(context, buffer));
        self.ended |= read.is_err() || (room > 0 && buffer.filled().len() == filled);
        Poll::Ready(read)
    }
}

impl<S, H> AsyncWrite for ImpatientSocket<S, H>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Send + Unpin + 'static,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write_within(context, |socket, context| socket.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_within(context, |socket, context| {
            socket.poll_write_vectored(context, slices)
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.socket
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_within(context, |socket, context| socket.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_within(context, |socket, context| socket.poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_reads_fails_and_one_that_is_read_does_not() {
        let (near, mut far) = duplex(4);
        let mut socket = ImpatientSocket::new(near, Some(()), Duration::from_secs(1));
        let (written, _) = tokio::join!(socket.write_all(b"12345678"), async {
            let mut bytes = [0; 8];
            far.read_exact(&mut bytes).await
        });
        written.unwrap();
        let failed = socket.write_all(b"12345678").await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_socket_reads_until_its_peer_closes_and_no_longer_than_the_deadline() {
        for closes in [true, false] {
            let held = std::sync::Arc::new(());
            let (near, mut far) = duplex(4);
            drop(ImpatientSocket::new(near, Some(held.clone()), LINGER));
            // Far more than fits: written only if somebody reads.
            far.write_all(&[7; 100]).await.unwrap();
            assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0, "the end was sent");
            assert_eq!(std::sync::Arc::strong_count(&held), 2);
            if closes {
                drop(far);
                tokio::task::yield_now().await;
            } else {
                sleep(LINGER + Duration::from_millis(1)).await;
            }
            assert_eq!(std::sync::Arc::strong_count(&held), 1, "closes: {closes}");
        }
    }
}
