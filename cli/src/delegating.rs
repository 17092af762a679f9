//! Handing what was earned to the configured towers, in the background.

use std::time::Duration;

use alloy::primitives::Address;
use libp2p::{Multiaddr, multiaddr::Protocol};
use lloom_ledger::{Ledger, TOWER_SILENCE};
use lloom_node::{
    NetworkHandle, peer_address,
    tower::{Courier, CourierConfig},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    failure::{Failure, Kind, Result},
    peers::multiaddresses,
    session::Session,
    watching::payee,
};

/// How long to wait for a tower that is away, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a tower that has nothing to be told is left alone before it is asked whether it is still there.
const ASK_EVERY: Duration = Duration::from_secs(60);
// A tower that missed a few questions is not silent yet.
const _: () = assert!(TOWER_SILENCE.as_secs() >= 5 * (ASK_EVERY.as_secs() + RETRY.1.as_secs()));

/// A tower of config.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredTower {
    /// Its address, which its peer id holds.
    pub tower: Address,
    /// Where it listens.
    pub at: Multiaddr,
}

/// The towers of config.toml, in its order.
///
/// # Errors
/// When one is named by something else than a multiaddress with a tower's peer id, or twice.
pub fn configured_towers(session: &Session) -> Result<Vec<ConfiguredTower>> {
    towers_at(&session.config()?.towers.peers)
}

/// The towers at these addresses.
///
/// # Errors
/// When one is no tower's address, or two are of one tower.
pub fn towers_at(addresses: &[String]) -> Result<Vec<ConfiguredTower>> {
    let mut towers: Vec<ConfiguredTower> = Vec::new();
    for at in multiaddresses("towers.peers", addresses)? {
        let wrong = |what: &str| {
            Failure::new(
                Kind::Configuration,
                format!("config.toml's towers.peers holds '{at}', {what}"),
            )
        };
        let peer = match at.iter().last() {
            Some(Protocol::P2p(peer)) => peer,
            _ => {
                return Err(wrong("which does not end in the tower's peer id").hint(
                    "copy the whole address, /p2p/… included: `lloomctl watch --tower` prints it. Without it, anybody who \
                     answers there could pose as the tower",
                ));
            }
        };
        let tower = peer_address(&peer).ok_or_else(|| wrong("whose peer id holds no secp256k1 key"))?;
        if towers.iter().any(|known| known.tower == tower) {
            return Err(wrong("the second address of one tower"));
        }
        towers.push(ConfiguredTower { tower, at });
    }
    Ok(towers)
}

/// Checks config.toml's `[towers]`.
///
/// # Errors
/// When something in it is wrong.
pub fn check(session: &Session) -> Result {
    courier_config(session).map(drop)
}

fn courier_config(session: &Session) -> Result<Option<CourierConfig>> {
    let settings = &session.config()?.towers;
    let towers = configured_towers(session)?;
    let token = &session.network.token;
    let urgent_value = token.parse_setting("towers.urgent_value", settings.urgent_value.as_str())?;
    if towers.is_empty() {
        return Ok(None);
    }
    Ok(Some(CourierConfig {
        towers: towers.into_iter().map(|tower| tower.at).collect(),
        payee: payee(session)?,
        token: token.address,
        interval: Duration::from_secs(settings.interval_secs.max(1)),
        urgent_value,
        ask_every: ASK_EVERY,
        retry: RETRY,
    }))
}

/// A courier at work, where towers are configured.
#[derive(Debug)]
pub struct Delegating {
    running: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Delegating {
    /// Starts one, if config.toml names towers. No tower is waited for.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub fn start(session: &Session, network: NetworkHandle, ledger: Ledger) -> Result<Self> {
        let running = courier_config(session)?.map(|config| {
            let courier = Courier::new(config, network, ledger, session.network.domain());
            let stop = CancellationToken::new();
            (tokio::spawn(courier.run(stop.clone())), stop)
        });
        Ok(Self { running })
    }

    /// None: there is nothing to hand over.
    pub const fn none() -> Self {
        Self { running: None }
    }

    /// Stops it. What towers have not acknowledged is handed over by the next one.
    pub async fn stop(self) {
        if let Some((task, stop)) = self.running {
            stop.cancel();
            if let Err(error) = task.await {
                tracing::warn!(%error, "the courier ended with an error");
            }
        }
    }
}
