//! Progress of long work: a line that changes on a terminal, silence in a pipe.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

const TICK: Duration = Duration::from_millis(100);

/// A running piece of work. Its line goes away when it is dropped.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Work of unknown length.
    pub fn spinner(output: Output, message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, target(output));
        bar.set_message(message.into());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// `length` pieces of work.
    pub fn counter(output: Output, length: u64, message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length), target(output));
        // Constant text: it either always parses or never does, and a test looks.
        bar.set_style(counter_style());
        bar.set_message(message.into());
        bar.enable_steady_tick(TICK);
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

fn counter_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}
