//! What executors are looked for by.
//!
//! An executor announces itself as a provider, in the hash table, of one key a model and of one more that stands for any
//! model. The keys hold the network's name, chain and settlement, so that executors of different networks that share
//! peers are not found under each other's. A record only says whom to ask: prices and limits come from the
//! [`Offer`](crate::Offer), by the executor itself.

use alloy::primitives::{B256, Keccak256};
use libp2p::{Multiaddr, kad, multiaddr::Protocol};
use lloom_receipts::ModelHash;

use crate::{Offer, network::NetworkName};

/// Keeps these keys apart from anything else that is hashed.
const KEY_TAG: &[u8] = b"lloom executor 1";

/// The hash-table key that executors which serve `model` (or any model) provide.
pub fn provider_key(network: &NetworkName, model: Option<ModelHash>) -> kad::RecordKey {
    let mut hasher = Keccak256::new();
    hasher.update(KEY_TAG);
    hasher.update((network.name.len() as u64).to_be_bytes());
    hasher.update(network.name.as_bytes());
    hasher.update(network.chain_id.to_be_bytes());
    hasher.update(network.settlement);
    // No model hashes to zero that anybody could find.
    hasher.update(model.map_or(B256::ZERO, ModelHash::hash));
    kad::RecordKey::new(&hasher.finalize())
}

/// All keys that whoever serves `offer` provides.
pub fn offer_keys(network: &NetworkName, offer: &Offer) -> Vec<kad::RecordKey> {
    std::iter::once(provider_key(network, None))
        .chain(offer.models.iter().map(|model| provider_key(network, Some(model.hash))))
        .collect()
}

/// Whether `offer` settles where `network` does.
pub fn same_network(network: &NetworkName, offer: &Offer) -> bool {
    offer.chain_id == network.chain_id && offer.settlement == network.settlement
}

/// Whether an address can be reached from other networks, as far as it tells. Names count as reachable.
pub fn is_global(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || shared)
        }
        Some(Protocol::Ip6(ip)) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use alloy::primitives::Address;

    use super::*;

    fn network(name: &str, chain_id: u64, settlement: u8) -> NetworkName {
        NetworkName {
            name: name.to_owned(),
            chain_id,
            settlement: Address::repeat_byte(settlement),
        }
    }

    #[test]
    fn networks_and_models_do_not_mix() {
        let models = [None, Some(ModelHash::of_id("a")), Some(ModelHash::of_id("b"))];
        let networks = [
            network("devnet", 31337, 1),
            network("devnet2", 31337, 1),
            network("devnet", 84532, 1),
            network("devnet", 31337, 2),
        ];
        let keys: HashSet<_> = networks
            .iter()
            .flat_map(|network| models.map(|model| provider_key(network, model)))
            .collect();
        assert_eq!(keys.len(), networks.len() * models.len());
    }

    #[test]
    fn tells_global_addresses_from_private_ones() {
        for (address, global) in [
            ("/ip4/127.0.0.1/tcp/1", false),
            ("/ip4/10.1.2.3/tcp/1", false),
            ("/ip4/192.168.1.2/tcp/1", false),
            ("/ip4/169.254.0.1/tcp/1", false),
            ("/ip4/100.64.0.1/tcp/1", false),
            ("/ip4/0.0.0.0/tcp/1", false),
            ("/ip4/100.63.0.1/tcp/1", true),
            ("/ip4/8.8.8.8/tcp/1", true),
            ("/ip6/::1/tcp/1", false),
            ("/ip6/fe80::1/tcp/1", false),
            ("/ip6/fd00::1/tcp/1", false),
            ("/ip6/2606:4700::1111/tcp/1", true),
            ("/dns4/node.example/tcp/1", true),
            ("/memory/7", false),
        ] {
            assert_eq!(is_global(&address.parse().unwrap()), global, "{address}");
        }
    }
}
