use eyre::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Waits until somebody wants this program to end: Ctrl-C, a `kill`, or a terminal that is closed. Whoever starts
/// processes waits for this beside its work, so that their guards are dropped.
///
/// # Errors
/// When signals can't be listened for.
pub async fn interruption() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}
