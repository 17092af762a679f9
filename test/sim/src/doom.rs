use crate::{
    chain::BROADCAST_DONE,
    choices::Choices,
    network::{READ, WRITE},
};

/// Moments at which an executor dies more often than by chance: between a decision and its effect, or the record of it.
pub const EXECUTOR_MOMENTS: [&str; 11] = [
    "flush",
    "record a transaction",
    "mark a transaction as broadcast",
    "finish a transaction",
    "apply blocks",
    "resolve an obligation",
    "commit a bill",
    "eth_sendRawTransaction",
    BROADCAST_DONE,
    READ,
    WRITE,
];
/// The same of a client.
pub const CLIENT_MOMENTS: [&str; 6] = [
    "flush",
    "begin a request",
    "authorize an increment",
    "link a receipt",
    READ,
    WRITE,
];
/// The longest that a process lives on that dies at some moment, milliseconds.
const LONGEST_LIFE: u64 = 20_000;

/// How a process is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doom {
    /// After so many more steps, whichever they are.
    Steps(u64),
    /// After so many more steps of a kind.
    StepsOf(&'static str, u64),
    /// So many milliseconds from now, whatever it waits for then.
    Millis(u64),
}

impl Doom {
    /// Some death, often at one of these `moments`.
    pub fn choose(choices: &mut Choices, moments: &[&'static str]) -> Self {
        match choices.below(10) {
            0..5 => {
                let kind = *choices.pick(moments);
                Self::StepsOf(kind, choices.below(3))
            }
            5..8 => {
                let most = *choices.pick(&[0, 10, 100, 1_000]);
                Self::Steps(choices.below(most + 1))
            }
            _ => Self::Millis(choices.below(LONGEST_LIFE)),
        }
    }
}
