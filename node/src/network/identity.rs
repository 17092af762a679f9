use alloy::primitives::Address;
use libp2p::{PeerId, identity};
use lloom_receipts::Keypair;

/// The code of the identity "hash": a peer id that holds its public key in full (peer ids specification, "Peer Ids").
const IDENTITY_MULTIHASH: u64 = 0;

/// The Ethereum address of a peer whose id holds a secp256k1 key; nothing for any other kind of key.
pub fn peer_address(peer: &PeerId) -> Option<Address> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    let key = key.try_into_secp256k1().ok()?;
    // The first byte tags the uncompressed form and is no part of the key.
    Some(Address::from_raw_public_key(&key.to_bytes_uncompressed()[1..]))
}

/// The peer id of a node that runs with `keypair`.
pub fn peer_id(keypair: &Keypair) -> PeerId {
    libp2p_keypair(keypair).public().to_peer_id()
}

/// The same key as libp2p holds it.
pub(super) fn libp2p_keypair(keypair: &Keypair) -> identity::Keypair {
    let secret = identity::secp256k1::SecretKey::try_from_bytes(keypair.secret())
        .unwrap_or_else(|error| unreachable!("one curve, two libraries, and the scalar is valid in one: {error}"));
    identity::secp256k1::Keypair::from(secret).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_is_an_ethereum_address() {
        for byte in [1, 7, 0x42] {
            let keypair = Keypair::from_secret([byte; 32]).unwrap();
            assert_eq!(peer_address(&peer_id(&keypair)), Some(keypair.address()));
        }
        // The first of the development keys every Ethereum tool knows.
        let secret = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let secret = hex::decode(secret).unwrap().try_into().unwrap();
        let keypair = Keypair::from_secret(secret).unwrap();
        assert_eq!(
            peer_address(&peer_id(&keypair)).unwrap().to_string(),
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
        );
    }

    #[test]
    fn a_peer_id_without_a_secp256k1_key_has_none() {
        // A random peer id is the identity "hash" of bytes that are no key.
        assert_eq!(peer_address(&PeerId::random()), None);
        // Ed25519, the kind most libp2p nodes have.
        let ed25519 = "12D3KooWH3uVF6wv47WnArKHk5ZDVmGb6CVbEDqVyemfPnCaQnQM".parse().unwrap();
        assert_eq!(peer_address(&ed25519), None);
        // RSA: the id is a SHA-256 hash of the key.
        let rsa = "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".parse().unwrap();
        assert_eq!(peer_address(&rsa), None);
    }
}
