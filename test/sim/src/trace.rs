use std::fmt;

/// Everything that happened, in order: what is compared to say that a seed replays exactly.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    /// Whether each line is printed as it comes.
    prints: bool,
}

impl Trace {
    /// An empty trace, which `prints` what comes.
    pub const fn new(prints: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            prints,
        }
    }

    /// Notes that `what` happened to `who` at `millis`.
    pub fn note(&mut self, millis: u64, who: &str, what: fmt::Arguments<'_>) {
        let line = format!("{:>9}.{:03} {who:<10} {what}", millis / 1_000, millis % 1_000);
        // FNV-1a.
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.events += 1;
        if self.prints {
            println!("{line}");
        }
    }

    /// The hash of all of it.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How much happened.
    pub const fn events(&self) -> u64 {
        self.events
    }
}
