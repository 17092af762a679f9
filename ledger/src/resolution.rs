//! How obligations end.

use std::fmt;

use alloy::primitives::B256;
use lloom_receipts::TokenAmount;
use serde::{Deserialize, Serialize};

/// How an obligation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "Written")]
pub enum Resolution {
    /// A final transaction of this store claimed what there was.
    Claimed {
        /// Its hash.
        transaction: B256,
    },
    /// There is nothing to do any more.
    Moot {
        /// Why.
        reason: Moot,
    },
    /// The channel is final, and not all of what could have been claimed was settled.
    Lost {
        /// What was not, base units.
        amount: TokenAmount,
    },
}

/// Why there is nothing to do any more. Each is read off a final state of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moot {
    /// A top-up of the payer called the close off.
    #[serde(alias = "the payer called the close off")]
    CalledOff,
    /// All that there was is settled, by a transaction that is not in this store: another store's, or a tower's.
    #[serde(alias = "everything was settled, by a transaction that is not in this store")]
    Settled,
    /// The channel is final, and nothing was earned on it.
    #[serde(alias = "nothing was served on the channel")]
    NothingEarned,
}

impl fmt::Display for Moot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::CalledOff => "the payer called the close off",
            Self::Settled => "everything was settled, by a transaction that is not in this store",
            Self::NothingEarned => "nothing was earned on the channel",
        })
    }
}

/// A resolution as stores have it. A loss was once a reason like the others, and each reason a sentence.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Claimed { transaction: B256 },
    Moot { reason: Reason },
    Lost { amount: TokenAmount },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Reason {
    Known(Moot),
    Sentence(String),
}

impl TryFrom<Written> for Resolution {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        Ok(match written {
            Written::Claimed { transaction } => Self::Claimed { transaction },
            Written::Moot {
                reason: Reason::Known(reason),
            } => Self::Moot { reason },
            Written::Moot {
                reason: Reason::Sentence(sentence),
            } => Self::Lost {
                amount: lost_as_it_says(&sentence).ok_or_else(|| format!("an unknown reason: {sentence}"))?,
            },
            Written::Lost { amount } => Self::Lost { amount },
        })
    }
}

fn lost_as_it_says(sentence: &str) -> Option<TokenAmount> {
    let amount = sentence
        .strip_prefix("the channel is final; ")?
        .strip_suffix(" base units were not claimed")?;
    amount.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Resolution, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        let amount = TokenAmount::new(7);
        let transaction = B256::repeat_byte(1);
        let reasons = [Moot::CalledOff, Moot::Settled, Moot::NothingEarned];
        let reasons = reasons.map(|reason| Resolution::Moot { reason });
        for resolution in [Resolution::Claimed { transaction }, Resolution::Lost { amount }]
            .into_iter()
            .chain(reasons)
        {
            let text = serde_json::to_string(&resolution).unwrap();
            assert_eq!(read(&text), Ok(resolution), "{text}");
        }
        assert_eq!(
            serde_json::to_string(&reasons[0]).unwrap(),
            r#"{"moot":{"reason":"called_off"}}"#
        );
    }

    #[test]
    fn sentences_of_older_versions_are_read() {
        let moot = |sentence: &str| read(&format!(r#"{{"moot":{{"reason":"{sentence}"}}}}"#));
        let ended = |reason| Ok(Resolution::Moot { reason });
        assert_eq!(moot("the payer called the close off"), ended(Moot::CalledOff));
        assert_eq!(
            moot("everything was settled, by a transaction that is not in this store"),
            ended(Moot::Settled)
        );
        assert_eq!(moot("nothing was served on the channel"), ended(Moot::NothingEarned));
        assert_eq!(
            moot("the channel is final; 12 base units were not claimed"),
            Ok(Resolution::Lost {
                amount: TokenAmount::new(12)
            })
        );
        assert!(moot("nobody looked").unwrap_err().contains("an unknown reason"));
    }
}
