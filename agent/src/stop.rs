//! The wish to stop: SIGINT and SIGTERM. It is looked at between effects and while the agent waits for
//! something; whatever is under way then is taken back or done again by the next start.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Becomes true once and stays so.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens for the signals from now on.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let (sender, receiver) = watch::channel(false);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tracing::info!("Stopping");
            let _ = sender.send(true);
            // Keeps the channel open: a closed one would wake everybody that waits.
            std::future::pending::<()>().await;
        });
        Ok(Self(receiver))
    }

    /// Whether to stop.
    pub(crate) fn is_wanted(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is time to stop.
    pub(crate) async fn wanted(&mut self) {
        if self.0.wait_for(|wanted| *wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
