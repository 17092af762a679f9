//! Progress of long work: a line that changes on a terminal, silence in a pipe.

use std::{
    io::{self, IsTerminal as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};

use crate::output::Output;

const TICK: Duration = Duration::from_millis(100);

/// The lines on the terminal now.
static SHOWN: Mutex<Vec<WeakProgressBar>> = Mutex::new(Vec::new());

/// A running piece of work. Its line goes away when it is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub fn spinner(output: Output, message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(output));
        bar.set_style(style("{spinner} {msg}"));
        Self::show(bar, message)
    }

    /// `length` pieces of work.
    pub fn counter(output: Output, length: u64, message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), target(output));
        bar.set_style(style("{spinner} {pos}/{len} {msg}"));
        Self::show(bar, message)
    }

    fn show(bar: ProgressBar, message: impl Into<String>) -> Self {
        bar.set_message(message.into());
        bar.enable_steady_tick(TICK);
        let mut shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|other| other.upgrade().is_some());
        shown.push(bar.downgrade());
        Self(bar)
    }

    /// Says what is being done now.
    pub fn say(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }

    /// One piece is done.
    pub fn advance(&self) {
        self.0.inc(1);
    }

    /// Runs `work` with the line out of its way.
    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn target(output: Output) -> ProgressDrawTarget {
    if output.is_json() || !io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    }
}

// Constant text: it either always parses or never does.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Runs `work`, which asks for something on the terminal, with every line out of its way.
pub fn out_of_the_way<T>(work: impl FnOnce() -> T) -> T {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let shown: Vec<ProgressBar> = shown.iter().filter_map(WeakProgressBar::upgrade).collect();
    suspended(&shown, work)
}

fn suspended<T, W: FnOnce() -> T>(bars: &[ProgressBar], work: W) -> T {
    match bars.split_first() {
        Some((bar, others)) => bar.suspend(|| suspended(others, work)),
        None => work(),
    }
}
